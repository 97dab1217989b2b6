use super::*;

/// Kind and body of each block, with the rules checked that all blocks obey.
fn blocks(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
    let mut blocks = Vec::new();
    while !bytes.is_empty() {
        let length = word(&bytes[4..]) as usize;
        assert_eq!(length % 4, 0);
        assert_eq!(word(&bytes[length - 4..]) as usize, length, "said again at the end");
        blocks.push((word(bytes), bytes[8..length - 4].to_vec()));
        bytes = &bytes[length..];
    }
    blocks
}

/// Code and value of each option.
fn options(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut options = Vec::new();
    loop {
        let code = u16::from_le_bytes([bytes[0], bytes[1]]);
        let length = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
        if code == 0 {
            assert_eq!((length, bytes.len()), (0, 4), "the end");
            return options;
        }
        options.push((code, bytes[4..4 + length].to_vec()));
        bytes = &bytes[4 + length.next_multiple_of(4)..];
    }
}

fn writer() -> Writer<Vec<u8>> {
    let interface =
        Interface { name: "eth0", description: "of h1", snaplen: 262, filter: "udp port 4789" };
    Writer::new(Vec::new(), "ovlctl 1", &interface).unwrap()
}

#[test]
fn a_file_begins_with_its_section_and_interface() {
    let blocks = blocks(&writer().into_inner());
    assert_eq!(blocks.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [SECTION_HEADER, 1]);
    assert_eq!(blocks[0].1[..4], BYTE_ORDER_MAGIC.to_le_bytes());
    assert_eq!(options(&blocks[0].1[16..]), [(4, b"ovlctl 1".to_vec())]);
    assert_eq!(blocks[1].1[..8], [1, 0, 0, 0, 6, 1, 0, 0]);
    let expected = [
        (2, b"eth0".to_vec()),
        (3, b"of h1".to_vec()),
        (9, vec![9]),
        (11, b"\0udp port 4789".to_vec()),
    ];
    assert_eq!(options(&blocks[1].1[8..]), expected);
}

#[test]
fn a_frame_keeps_its_nanoseconds_lengths_and_direction() {
    let mut writer = writer();
    let at = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    let frame = Frame { bytes: vec![1, 2, 3, 4, 5], length: 1500, direction: Direction::Out, at };
    writer.frame(&frame).unwrap();
    let (kind, body) = blocks(&writer.into_inner()).pop().unwrap();
    assert_eq!(kind, PACKET);
    let word = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().unwrap());
    let nanos = u64::from(word(4)) << 32 | u64::from(word(8));
    assert_eq!(nanos, 1_700_000_000_123_456_789);
    assert_eq!((word(12), word(16)), (5, 1500));
    assert_eq!(body[20..28], [1, 2, 3, 4, 5, 0, 0, 0]);
    assert_eq!(options(&body[28..]), [(2, vec![2, 0, 0, 0])]);
}

#[test]
fn names_of_both_families_are_kept_in_blocks_of_bounded_size() {
    let mut writer = writer();
    let v6: IpAddr = "fd00::1".parse().unwrap();
    let mut names = vec![(IpAddr::from([10, 0, 0, 1]), "größe\0"); NAMES_IN_BLOCK];
    names.push((v6, "web"));
    writer.names(&names).unwrap();
    let blocks = blocks(&writer.into_inner());
    let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [SECTION_HEADER, INTERFACE, NAMES, NAMES]);
    // Records look as options do.
    let first = options(&blocks[2].1[..blocks[2].1.len()]);
    assert_eq!(first.len(), NAMES_IN_BLOCK);
    assert_eq!(first[0], (1, [&[10, 0, 0, 1], "größe".as_bytes(), &[0]].concat()));
    let last = options(&blocks[3].1);
    assert_eq!(last[0].0, 2);
    assert_eq!(&last[0].1[16..], b"web\0");
}

#[test]
fn counts_are_kept() {
    let mut writer = writer();
    let statistics = Statistics { written: 77, dropped: 23 };
    writer.statistics(SystemTime::UNIX_EPOCH, &statistics).unwrap();
    let (kind, body) = blocks(&writer.into_inner()).pop().unwrap();
    assert_eq!(kind, STATISTICS);
    let counts: Vec<(u16, u64)> = options(&body[12..])
        .into_iter()
        .map(|(code, value)| (code, u64::from_le_bytes(value.try_into().unwrap())))
        .collect();
    assert_eq!(counts, [(5, 23), (6, 100), (7, 23), (8, 77)]);
}

#[test]
fn long_text_is_cut_between_characters() {
    let long = "é".repeat(TEXT_MAX);
    assert_eq!(cut(&long).len(), TEXT_MAX);
    let odd = format!("x{long}");
    assert_eq!(cut(&odd).len(), TEXT_MAX - 1);
}
