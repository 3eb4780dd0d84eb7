//! Integer products with blocks along K beside those with a scale per channel.

use crate::data::{self, Draw};
use crate::gemm::kernels;
use crate::limits::Limits;
use crate::measure::{Report, Subject};
use quant::kernel::{
    Activations, BitWidth, Codes, Epilogue, Kernel, Output, PackedWeights, Scratch, Weights,
};
use quant::scheme::{
    ActivationMapping, Axis, Block, DynamicGranularity, DynamicQuantization, Granularity,
};
use std::num::NonZeroU32;

const ROWS: [usize; 4] = [1, 8, 32, 128];
const K: usize = 2048;
const N: usize = 2048;

/// Bytes of weights that are cycled through where one row reads them from memory.
const FLUSH_BYTES: usize = 160 << 20;

/// Activations in blocks of 32.
const IN_BLOCKS: DynamicQuantization = DynamicQuantization {
    mapping: ActivationMapping::Symmetric,
    granularity: DynamicGranularity::Block(NonZeroU32::new(32).unwrap()),
};
/// Activations with one scale for each row.
const BY_ROWS: DynamicQuantization =
    DynamicQuantization { granularity: DynamicGranularity::Row, ..IN_BLOCKS };

/// The blocks of weights, and whether they have minimums.
const BLOCKS: [(Option<u32>, bool); 5] =
    [(None, false), (Some(128), false), (Some(32), false), (Some(128), true), (Some(32), true)];

pub(crate) fn run(report: &Report, threads: usize, limits: &Limits) {
    for rows in ROWS {
        for kernel in kernels() {
            for four in [false, true] {
                let mut subjects = Vec::new();
                for (block, minimums) in BLOCKS.into_iter().filter(|of| four || !of.1) {
                    for blocks in [false, true] {
                        let case = Case { kernel, four, block, minimums, blocks };
                        subjects.push(case.subject(rows, threads, limits));
                    }
                }
                let case = format!("{rows}x{K}x{N} blocks");
                report.rows("gemm", &case, threads, 15, &mut subjects);
            }
        }
    }
}

/// What is multiplied.
#[derive(Clone, Copy)]
struct Case {
    kernel: Kernel,
    four: bool,
    /// The length of the blocks of the weights.
    block: Option<u32>,
    minimums: bool,
    /// Whether activations have blocks; else each row has a scale.
    blocks: bool,
}

impl Case {
    fn subject<'a>(self, rows: usize, threads: usize, limits: &Limits) -> Subject<'a> {
        let Self { kernel, four, .. } = self;
        let packed = self.packed();
        let copies = if rows == 1 { FLUSH_BYTES.div_ceil(packed.bytes()) } else { 1 };
        let weights = vec![packed; copies];
        let x = data::activations(Draw::Real, rows, K, 2);
        let (mut out, mut scratch) = (vec![0.0; rows * N], Scratch::with_threads(threads));
        let quantization = if self.blocks { IN_BLOCKS } else { BY_ROWS };
        let mut call = 0;
        let run = move || {
            call = (call + 1) % weights.len();
            let x = Activations::Dynamic { values: &x, m: rows, quantization };
            let (epilogue, output) = (Epilogue::default(), Output::F32(&mut out));
            let done = kernel.linear(&weights[call], x, &epilogue, output, &mut scratch);
            done.expect("the layer fits its input");
        };
        let subject = Subject::new(self.name(), run).work("gops", 2.0 * (rows * K * N) as f64);
        let subject = subject.beside("of_per_channel", 0);
        if rows > 1 {
            return subject;
        }
        let codes = K * N / if four { 2 } else { 1 };
        let parameters = self.block.map_or(1, |block| K / block as usize) * N * 4;
        let bytes = codes + parameters * if self.minimums { 2 } else { 1 };
        subject.limit("of_read", bytes as f64 / limits.read)
    }

    fn name(self) -> String {
        let Self { kernel, four, block, minimums, blocks } = self;
        let weights = if four { "w4a8" } else { "int8" };
        let block = block.map_or("channel".into(), |block| format!("blocks of {block}"));
        let minimums = if minimums { " over minimums" } else { "" };
        let rows = if blocks { "blocks of 32" } else { "rows" };
        format!("{weights} {block}{minimums}, {rows} {kernel}")
    }

    fn packed(self) -> PackedWeights {
        let Self { kernel, four, block, minimums, blocks } = self;
        let data = data::weights(Draw::Real, N, K, if four { 4 } else { 8 }, 1);
        let mut bytes = Vec::new();
        if four {
            for row in data.codes.chunks(K) {
                let mut packed = vec![0; K / 2];
                kernel.pack(BitWidth::Four, row, &mut packed);
                bytes.extend(packed);
            }
        }
        let granularity = match block {
            None => Granularity::PerChannel(Axis::FIRST),
            Some(len) => Granularity::PerBlock(Block::new(len).expect("not 0")),
        };
        let scales = vec![0.01; block.map_or(1, |block| K / block as usize) * N];
        let weights = Weights {
            n: N,
            k: K,
            codes: if four {
                Codes::Packed(BitWidth::Four, &bytes)
            } else {
                Codes::Bytes(&data.codes)
            },
            granularity,
            scales: &scales,
            zero_points: if minimums { &[-8] } else { &[] },
            minimums: if minimums { &scales } else { &[] },
        };
        let packed = match blocks {
            true => PackedWeights::for_dynamic(kernel, &weights, IN_BLOCKS),
            false => PackedWeights::new(kernel, &weights),
        };
        packed.expect("weights that fit their shape")
    }
}
