//! Samples in, text out.

use std::collections::BTreeMap;

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::families::{Family, Type};
use super::histogram::Reading;

/// The samples of one answer, by family.
#[derive(Debug, Default)]
pub(super) struct Page {
    samples: BTreeMap<&'static str, Vec<Metric>>,
}

/// Names and values.
type Labels<'a> = &'a [(&'static str, &'a str)];

impl Page {
    pub(super) fn counter(&mut self, name: &'static str, labels: Labels<'_>, value: u64) {
        self.counter_of(name, labels, value as f64);
    }

    /// The same for what is no whole number.
    pub(super) fn counter_of(&mut self, name: &'static str, labels: Labels<'_>, value: f64) {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = labelled(labels);
        metric.set_counter(counter);
        self.push(name, metric);
    }

    pub(super) fn gauge(&mut self, name: &'static str, labels: Labels<'_>, value: f64) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = labelled(labels);
        metric.set_gauge(gauge);
        self.push(name, metric);
    }

    pub(super) fn histogram(&mut self, name: &'static str, labels: Labels<'_>, reading: &Reading) {
        let bucket = |(bound, count): &(f64, u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(*count);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_bucket(reading.buckets.iter().map(bucket).collect());
        histogram.set_sample_count(reading.count);
        histogram.set_sample_sum(reading.sum);
        let mut metric = labelled(labels);
        metric.set_histogram(histogram);
        self.push(name, metric);
    }

    fn push(&mut self, name: &'static str, metric: Metric) {
        self.samples.entry(name).or_default().push(metric);
    }

    /// In the order of names. What is not in the table is left out, which a test rules out.
    pub(super) fn text(self) -> String {
        let families: Vec<MetricFamily> = self
            .samples
            .into_iter()
            .filter_map(|(name, samples)| Some(family(Family::named(name)?, samples)))
            .collect();
        // Every family here has a name and samples: nothing else is refused.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }
}

fn family(of: &Family, samples: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(of.name.to_owned());
    family.set_help(of.help.to_owned());
    family.set_field_type(match of.kind {
        Type::Counter => MetricType::COUNTER,
        Type::Gauge => MetricType::GAUGE,
        Type::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(samples);
    family
}

fn labelled(labels: Labels<'_>) -> Metric {
    let pair = |(name, value): &(&'static str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}
