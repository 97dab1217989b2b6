//! Numbers in few characters.

/// `0`, `12.3 k`, `456 M`: at most seven characters, of three digits.
pub(super) fn amount(number: f64) -> String {
    let units = ["", " k", " M", " G", " T"];
    let mut value = number.max(0.0);
    let mut unit = 0;
    // What would be rounded up to four digits has the next unit already.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{}", units[unit])
}

/// `0.31 ms`, `12.4 ms`, `1.2 s`.
pub(super) fn round_trip(micros: u64) -> String {
    let millis = micros as f64 / 1000.0;
    match micros {
        0..10_000 => format!("{millis:.2} ms"),
        10_000..100_000 => format!("{millis:.1} ms"),
        100_000..1_000_000 => format!("{millis:.0} ms"),
        1_000_000.. => format!("{:.1} s", millis / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_digits_and_a_unit() {
        for (number, text) in [
            (0.0, "0"),
            (-1.0, "0"),
            (0.4, "0"),
            (999.4, "999"),
            (999.6, "1.00 k"),
            (9_994.0, "9.99 k"),
            (9_996.0, "10.0 k"),
            (123_456.0, "123 k"),
            (999_600.0, "1.00 M"),
            (1.25e9, "1.25 G"),
            (5e15, "5000 T"),
        ] {
            assert_eq!(amount(number), text, "{number}");
            assert!(amount(number).len() <= 7);
        }
    }

    #[test]
    fn round_trips_are_in_milliseconds() {
        for (micros, text) in [
            (0, "0.00 ms"),
            (312, "0.31 ms"),
            (12_400, "12.4 ms"),
            (345_600, "346 ms"),
            (1_200_000, "1.2 s"),
        ] {
            assert_eq!(round_trip(micros), text);
        }
    }
}
