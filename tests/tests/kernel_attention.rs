//! Attention: every kernel against rule 17 as it is written, however tokens are divided into calls.

use quant::kernel::{AttentionError, AttentionScratch, Kernel, KeyValueCache, KeyValueShape};
use quant::scheme::{KeyValueScheme, f16_to_f32, f32_to_f16};
use tests::kernels::{in_pool, kernels};
use tests::random::Random;

/// Numbers in codes, with the scale of each.
#[derive(Clone)]
struct Row {
    codes: Vec<f32>,
    scales: Vec<f32>,
}

impl Row {
    fn value(&self, d: usize) -> f32 {
        self.codes[d] * self.scales[d]
    }
}

/// A row as it is kept: as it is, or turned and in codes.
fn row(values: &[f32], scheme: KeyValueScheme) -> Row {
    match scheme {
        KeyValueScheme::F32 => Row { codes: values.to_vec(), scales: vec![1.0; values.len()] },
        KeyValueScheme::Int8 => bytes(&turned(values)),
        _ => nibbles(&turned(values)),
    }
}

/// The least scale of a block.
const LEAST_SCALE: f64 = 1.0 / 262_144.0;

/// The product with a Hadamard matrix of each run of as many elements as the largest power of two that
/// divides the length.
fn turned(values: &[f32]) -> Vec<f32> {
    let len = 1 << values.len().trailing_zeros();
    let mut row = values.to_vec();
    let mut half = 1;
    while half < len {
        row = (0..row.len())
            .map(|i| if i & half == 0 { row[i] + row[i + half] } else { row[i - half] - row[i] })
            .collect();
        half *= 2;
    }
    row.iter().map(|x| x * (1.0 / (len as f32).sqrt())).collect()
}

fn bytes(values: &[f32]) -> Row {
    let mut row = Row { codes: Vec::new(), scales: Vec::new() };
    for block in values.chunks(32) {
        let most = block.iter().fold(0f64, |most, x| most.max(f64::from(x.abs())));
        let scale = f16_to_f32(f32_to_f16((most / 127.0).max(LEAST_SCALE) as f32));
        for x in block {
            row.codes.push((x / scale).round_ties_even().clamp(-127.0, 127.0));
            row.scales.push(scale);
        }
    }
    row
}

fn nibbles(values: &[f32]) -> Row {
    let mut row = Row { codes: Vec::new(), scales: Vec::new() };
    for block in values.chunks(32) {
        let lo = block.iter().fold(0f64, |lo, x| lo.min(f64::from(*x)));
        let hi = block.iter().fold(0f64, |hi, x| hi.max(f64::from(*x)));
        let exact = ((hi - lo) / 15.0).max(LEAST_SCALE);
        let scale = f16_to_f32(f32_to_f16(exact as f32));
        let zero = (-8.0 - lo / exact).round_ties_even().clamp(-8.0, 7.0) as f32;
        for x in block {
            let code = ((x / scale).round_ties_even() + zero).clamp(-8.0, 7.0);
            row.codes.push(code - zero);
            row.scales.push(scale);
        }
    }
    row
}

/// A key, and what was subtracted from it.
struct Key {
    row: Row,
    center: Option<Row>,
}

/// The keys of a head as they are kept.
fn keys<'a>(values: impl Iterator<Item = &'a [f32]>, scheme: KeyValueScheme) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for (position, values) in values.enumerate() {
        if scheme != KeyValueScheme::Int4 {
            keys.push(Key { row: row(values, scheme), center: None });
            continue;
        }
        let center = match position {
            0 => bytes(&vec![0.0; values.len()]),
            _ if position % 32 == 0 => bytes(&mean(&keys[position - 32..])),
            _ => keys[position - 1].center.clone().unwrap(),
        };
        let rest = turned(values).into_iter().enumerate().map(|(d, x)| x - center.value(d));
        keys.push(Key { row: nibbles(&rest.collect::<Vec<_>>()), center: Some(center) });
    }
    keys
}

/// The mean of a panel of keys, as they are kept.
fn mean(panel: &[Key]) -> Vec<f32> {
    let center = panel[0].center.as_ref().unwrap();
    (0..center.codes.len())
        .map(|d| {
            let sum = panel.iter().fold(0f32, |sum, key| sum + key.row.value(d));
            center.value(d) + sum * (1.0 / 32.0)
        })
        .collect()
}

/// The result of one query over rows of keys and values, by rule 17.
fn reference(query: &[f32], keys: &[Key], values: &[Row], scheme: KeyValueScheme) -> Vec<f32> {
    let root = (query.len() as f32).sqrt();
    let mut weights: Vec<f32> = keys.iter().map(|key| score(query, key, scheme) / root).collect();
    let len = weights.len();
    Kernel::SCALAR.softmax(&mut weights, len).unwrap();
    let result: Vec<f32> = (0..query.len())
        .map(|d| {
            let terms = weights.iter().zip(values);
            terms.fold(0f32, |y, (p, value)| (p * value.scales[d]).mul_add(value.codes[d], y))
        })
        .collect();
    let result = if scheme == KeyValueScheme::F32 { result } else { turned(&result) };
    result.into_iter().map(|y| y + 0.0).collect()
}

fn score(query: &[f32], key: &Key, scheme: KeyValueScheme) -> f32 {
    if scheme == KeyValueScheme::F32 {
        return query.iter().zip(&key.row.codes).fold(0f32, |y, (q, k)| q.mul_add(*k, y));
    }
    let query = turned(query);
    let most = query.iter().fold(0f32, |most, x| most.max(x.abs()));
    let exact = f64::from(most) / 127.0;
    let scale = if exact < f64::from(f32::MIN_POSITIVE) { 1.0 } else { exact as f32 };
    let code = |x: &f32| (x / scale).round_ties_even().clamp(-127.0, 127.0);
    let codes: Vec<f32> = query.iter().map(code).collect();
    let start = key.center.as_ref().map_or(0.0, |center| dot(0.0, &codes, scale, center));
    dot(start, &codes, scale, &key.row)
}

/// `y` plus the products of blocks, each times its scales.
fn dot(mut y: f32, query: &[f32], scale: f32, key: &Row) -> f32 {
    for (i, (q, k)) in query.chunks(32).zip(key.codes.chunks(32)).enumerate() {
        let sum: i64 = q.iter().zip(k).map(|(q, k)| *q as i64 * *k as i64).sum();
        y += sum as f32 * (scale * key.scales[i * 32]);
    }
    y
}

/// Queries, keys and values of some tokens.
struct Case {
    shape: KeyValueShape,
    query_heads: usize,
    tokens: usize,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

fn case(heads: usize, group: usize, head_dim: usize, tokens: usize, spread: f32) -> Case {
    let mut random = Random((heads * 1000 + group * 100 + head_dim + tokens) as u64);
    let mut draw = |len: usize| -> Vec<f32> {
        (0..len).map(|_| random.normal() * (random.normal() * spread).exp()).collect()
    };
    let (row, query_heads) = (heads * head_dim, heads * group);
    Case {
        shape: KeyValueShape { heads, head_dim, capacity: tokens + 3 },
        query_heads,
        tokens,
        queries: draw(tokens * row * group),
        keys: draw(tokens * row),
        values: draw(tokens * row),
    }
}

impl Case {
    fn cache(&self, scheme: KeyValueScheme) -> KeyValueCache {
        KeyValueCache::new(self.shape, scheme).unwrap()
    }

    fn reference(&self, scheme: KeyValueScheme) -> Vec<f32> {
        let KeyValueShape { heads, head_dim, .. } = self.shape;
        let kept: Vec<_> = (0..heads)
            .map(|head| {
                let [keys, values] = [&self.keys, &self.values]
                    .map(|x| x.chunks(head_dim).skip(head).step_by(heads));
                let values: Vec<_> = values.map(|x| row(x, scheme)).collect();
                (self::keys(keys, scheme), values)
            })
            .collect();
        let queries = self.queries.chunks(head_dim).enumerate();
        queries
            .flat_map(|(i, query)| {
                let (token, query_head) = (i / self.query_heads, i % self.query_heads);
                let (keys, values) = &kept[query_head / (self.query_heads / heads)];
                reference(query, &keys[..=token], &values[..=token], scheme)
            })
            .collect()
    }

    /// In calls of so many tokens each.
    fn attend(
        &self,
        kernel: Kernel,
        scheme: KeyValueScheme,
        calls: &[usize],
        threads: usize,
    ) -> Vec<f32> {
        let mut cache = self.cache(scheme);
        let mut scratch = AttentionScratch::with_threads(threads);
        let mut out = vec![f32::NAN; self.queries.len()];
        let row = self.shape.heads * self.shape.head_dim;
        let query_row = self.query_heads * self.shape.head_dim;
        let mut done = 0;
        for &tokens in calls.iter().cycle() {
            let end = self.tokens.min(done + tokens);
            let part = done * row..end * row;
            cache.append(kernel, &self.keys[part.clone()], &self.values[part]).unwrap();
            let part = done * query_row..end * query_row;
            let (queries, out) = (&self.queries[part.clone()], &mut out[part]);
            kernel.attention(queries, self.query_heads, &cache, out, &mut scratch).unwrap();
            done = end;
            if done == self.tokens {
                break;
            }
        }
        assert_eq!(cache.len(), self.tokens);
        out
    }
}

fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        assert!(same, "{what}, element {i}: {a:e}, not {b:e}");
    }
}

/// Heads, query heads of each, dimensions, tokens.
const SHAPES: [(usize, usize, usize, usize); 10] = [
    (3, 3, 64, 70),
    (1, 1, 1, 9),
    (2, 1, 5, 40),
    (1, 4, 33, 34),
    (2, 2, 80, 65),
    (1, 8, 128, 20),
    (1, 25, 32, 37),
    (4, 1, 100, 3),
    (1, 2, 576, 12),
    // More panels than there are positions in one.
    (1, 1, 8, 1090),
];

#[test]
fn every_kernel_computes_rule_17_however_tokens_are_divided() {
    for (heads, group, head_dim, tokens) in SHAPES {
        for spread in [0.3, 2.0] {
            let case = case(heads, group, head_dim, tokens, spread);
            for scheme in KeyValueScheme::ALL {
                let expected = case.reference(scheme);
                for kernel in kernels() {
                    for calls in [&[usize::MAX / 2][..], &[1], &[2, 7, 1, 30]] {
                        let what =
                            format!("{kernel} {scheme} {heads} {group} {head_dim} {calls:?}");
                        assert_same(&case.attend(kernel, scheme, calls, 1), &expected, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let case = case(3, 3, 64, 260, 0.5);
    for scheme in KeyValueScheme::ALL {
        let expected = case.attend(Kernel::fastest(), scheme, &[1000], 1);
        for kernel in kernels() {
            for threads in [2, 3] {
                let found = in_pool(|| case.attend(kernel, scheme, &[200, 1], threads));
                assert_same(&found, &expected, kernel.name());
            }
        }
    }
}

/// The largest element of a row that is turned.
const LARGEST: f32 = 1.267_650_6e30;

#[test]
fn extreme_keys_and_values_give_the_same_bits_everywhere() {
    for scheme in KeyValueScheme::ALL {
        let mut case = case(2, 2, 40, 50, 0.5);
        let great = match scheme {
            KeyValueScheme::F32 => f32::MAX,
            // Scales are in half precision.
            KeyValueScheme::Int8 => 1e6,
            _ => 1e5,
        };
        let extremes = [great, -great, 1e-45, -1e-45, 0.0, -0.0, 1e-20, f32::MIN_POSITIVE];
        let mut random = Random(3);
        for x in [&mut case.keys, &mut case.values, &mut case.queries] {
            for x in x.iter_mut() {
                if random.below(4) == 0 {
                    *x = extremes[random.below(8)];
                }
            }
        }
        // Whole rows of zeros.
        case.keys[..80].fill(0.0);
        case.values[..80].fill(-0.0);
        let expected = case.reference(scheme);
        for kernel in kernels() {
            let found = case.attend(kernel, scheme, &[33, 4], 1);
            assert_same(&found, &expected, &format!("{kernel} {scheme}"));
        }
    }
}

#[test]
fn results_are_near_to_attention_in_f64() {
    let case = case(3, 3, 64, 200, 0.2);
    let KeyValueShape { heads, head_dim, .. } = case.shape;
    for (scheme, bound) in
        [(KeyValueScheme::F32, 2e-6), (KeyValueScheme::Int8, 0.02), (KeyValueScheme::Int4, 0.25)]
    {
        let found = case.attend(Kernel::fastest(), scheme, &[1000], 1);
        let (mut error, mut size) = (0f64, 0f64);
        for (i, query) in case.queries.chunks(head_dim).enumerate() {
            let (token, head) = (i / case.query_heads, i % case.query_heads / 3);
            let row = |x: &[f32], t: usize| -> Vec<f64> {
                let x = &x[(t * heads + head) * head_dim..][..head_dim];
                x.iter().map(|x| f64::from(*x)).collect()
            };
            let scores: Vec<f64> = (0..=token)
                .map(|t| {
                    let key = row(&case.keys, t);
                    query.iter().zip(key).map(|(q, k)| f64::from(*q) * k).sum::<f64>() / 8.0
                })
                .collect();
            let most = scores.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - most).exp()).sum();
            for d in 0..head_dim {
                let exact: f64 = (0..=token)
                    .map(|t| (scores[t] - most).exp() / sum * row(&case.values, t)[d])
                    .sum();
                error += (f64::from(found[i * head_dim + d]) - exact).powi(2);
                size += exact * exact;
            }
        }
        let relative = (error / size).sqrt();
        assert!(relative < bound, "{scheme}: {relative}");
    }
}

#[test]
fn truncated_tokens_are_forgotten() {
    let case = case(2, 1, 48, 80, 0.5);
    let row = 2 * 48;
    let junk = vec![777.0; 80 * row];
    for scheme in KeyValueScheme::ALL {
        let expected = case.reference(scheme);
        for (kernel, kept) in kernels().into_iter().flat_map(|kernel| [(kernel, 20), (kernel, 40)])
        {
            let mut cache = case.cache(scheme);
            let (keys, values) = (&case.keys[..kept * row], &case.values[..kept * row]);
            cache.append(kernel, keys, values).unwrap();
            let more = &junk[..(80 - kept) * row];
            cache.append(kernel, more, more).unwrap();
            cache.truncate(kept);
            cache.truncate(80);
            assert_eq!(cache.len(), kept);
            let (keys, values) = (&case.keys[kept * row..], &case.values[kept * row..]);
            cache.append(kernel, keys, values).unwrap();
            let mut out = vec![0.0; case.queries.len()];
            let mut scratch = AttentionScratch::new();
            kernel.attention(&case.queries, 2, &cache.clone(), &mut out, &mut scratch).unwrap();
            assert_same(&out, &expected, kernel.name());
            cache.clear();
            assert!(cache.is_empty());
        }
    }
}

#[test]
fn keys_that_drift_out_of_half_precision_are_an_error() {
    let shape = KeyValueShape { heads: 1, head_dim: 1, capacity: 400 };
    let keys: Vec<f32> = (0..400).map(|position| (position / 32) as f32 * 9e5).collect();
    for kernel in kernels() {
        let mut cache = KeyValueCache::new(shape, KeyValueScheme::Int4).unwrap();
        let error = AttentionError::TooLarge { of: "keys", index: 352 };
        assert_eq!(cache.append(kernel, &keys, &vec![1.0; 400]), Err(error));
        assert_eq!(cache.len(), 0);
        assert_eq!(cache.append(kernel, &keys[..352], &vec![1.0; 352]), Ok(()));
    }
}

#[test]
fn memory_is_a_fraction_of_that_of_half_precision() {
    let shape = KeyValueShape { heads: 3, head_dim: 64, capacity: 2048 };
    let half = (2 * 2 * 3 * 64 * 2048) as f64;
    for (scheme, most) in
        [(KeyValueScheme::F32, 2.001), (KeyValueScheme::Int8, 0.54), (KeyValueScheme::Int4, 0.30)]
    {
        let cache = KeyValueCache::new(shape, scheme).unwrap();
        assert_eq!((cache.capacity(), cache.scheme(), cache.shape()), (2048, scheme, shape));
        let fraction = cache.bytes() as f64 / half;
        assert!(fraction <= most, "{scheme}: {fraction}");
    }
}

#[test]
fn what_does_not_fit_is_an_error_and_changes_nothing() {
    let kernel = Kernel::current();
    let shape = KeyValueShape { heads: 2, head_dim: 4, capacity: 3 };
    let int4 = KeyValueScheme::Int4;
    for (heads, head_dim) in [(0, 4), (2, 0), (1, 1 << 17)] {
        let error =
            KeyValueCache::new(KeyValueShape { heads, head_dim, ..shape }, int4).unwrap_err();
        assert_eq!(error, AttentionError::Shape { heads, head_dim });
    }
    for scheme in KeyValueScheme::ALL {
        let large = KeyValueShape { capacity: usize::MAX / 16, ..shape };
        let error = KeyValueCache::new(large, scheme).unwrap_err();
        assert_eq!(error, AttentionError::Memory { capacity: usize::MAX / 16 });
    }
    let mut cache = KeyValueCache::new(shape, int4).unwrap();
    let mut append = |keys: &[f32], values: &[f32]| {
        let result = cache.append(kernel, keys, values);
        (result, cache.len())
    };
    assert_eq!(append(&[1.0; 16], &[1.0; 16]), (Ok(()), 2));
    let rows = AttentionError::Rows { of: "keys", len: 9, row: 8 };
    assert_eq!(append(&[1.0; 9], &[1.0; 9]), (Err(rows), 2));
    let length = AttentionError::Length { of: "values", expected: 8, found: 16 };
    assert_eq!(append(&[1.0; 8], &[1.0; 16]), (Err(length), 2));
    let full = AttentionError::Full { len: 2, tokens: 2, capacity: 3 };
    assert_eq!(append(&[1.0; 16], &[1.0; 16]), (Err(full), 2));
    let mut values = [1.0; 8];
    let too_large = AttentionError::TooLarge { of: "values", index: 4 };
    for large in [1e10, LARGEST, LARGEST.next_up(), f32::MAX] {
        values[5] = large;
        assert_eq!(append(&[1.0; 8], &values), (Err(too_large), 2));
    }
    values[5] = f32::INFINITY;
    let (result, len) = append(&[1.0; 8], &values);
    let error = result.unwrap_err();
    assert_eq!((error.to_string(), len), ("values: an element is not finite".into(), 2));
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains('5'), "{source}");
    assert_eq!(append(&[], &[]), (Ok(()), 2));

    let mut scratch = AttentionScratch::new();
    let mut attend = |queries: &[f32], heads: usize, out: &mut [f32]| {
        kernel.attention(queries, heads, &cache, out, &mut scratch)
    };
    for query_heads in [0, 3] {
        let error = AttentionError::QueryHeads { query_heads, heads: 2 };
        assert_eq!(attend(&[1.0; 12], query_heads, &mut [0.0; 12]), Err(error));
    }
    let rows = AttentionError::Rows { of: "queries", len: 12, row: 16 };
    assert_eq!(attend(&[1.0; 12], 4, &mut [0.0; 12]), Err(rows));
    let tokens = AttentionError::Tokens { tokens: 3, len: 2 };
    assert_eq!(attend(&[1.0; 24], 2, &mut [0.0; 24]), Err(tokens));
    let length = AttentionError::Length { of: "output", expected: 16, found: 8 };
    assert_eq!(attend(&[1.0; 16], 2, &mut [0.0; 8]), Err(length));
    let result = attend(&[f32::NAN; 8], 2, &mut [0.0; 8]);
    assert!(matches!(result, Err(AttentionError::NonFinite { of: "queries", .. })));
    let mut queries = [1.0; 16];
    queries[13] = -LARGEST.next_up();
    let too_large = AttentionError::TooLarge { of: "queries", index: 12 };
    assert_eq!(attend(&queries, 2, &mut [0.0; 16]), Err(too_large));
    assert_eq!(attend(&[], 2, &mut []), Ok(()));
}
