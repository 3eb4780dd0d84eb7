//! The operations on pairs of NEON vectors: those of [`Isa`](crate::isa::Isa), whose documentation they have.

use crate::isa::{Line, QUANTIZE_LANES, Reciprocal, nibble_at};
use core::arch::aarch64::*;
use core::arch::asm;

pub(super) type Ints = [int32x4_t; 2];
pub(super) type Floats = [float32x4_t; 2];

/// What is subtracted in [`nibble`] for each place of a code in half a lane.
pub(super) type Nibbles = [float32x4_t; 4];

/// The codes of a k-step for one vector of columns.
pub(super) type Codes = [i8; 32];

/// The union of the exponent bits of `2^23`, `2^19`, `2^15` and `2^11`, in place.
const NIBBLE_EXPONENTS: i32 = ((127 + 23) | (127 + 19) | (127 + 15) | (127 + 11)) << 23;

/// For each byte of a vector the byte that [`byte`] looks up: byte `j` of each lane becomes its highest one, and 0
/// the others.
const fn highest(j: u8) -> [u8; 16] {
    let mut bytes = [255; 16];
    let mut lane = 0;
    while lane < 4 {
        bytes[4 * lane + 3] = 4 * lane as u8 + j;
        lane += 1;
    }
    bytes
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn zero() -> Ints {
    splat_int(0)
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn splat_int(value: i32) -> Ints {
    [vdupq_n_s32(value); 2]
}

/// [`Isa::flip_signs`](crate::isa::Isa::flip_signs).
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn flip_signs(line: &mut Line) {
    for bytes in line.bytes_mut().as_chunks_mut().0 {
        store_16(veorq_u8(load_16(bytes), vdupq_n_u8(0x80)), bytes);
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn store_16(bytes: uint8x16_t, to: &mut [u8; 16]) {
    // SAFETY: the reference is to the 16 bytes that are written.
    unsafe { vst1q_u8(to.as_mut_ptr(), bytes) };
}

#[target_feature(enable = "neon")]
#[inline]
fn load_16(from: &[u8; 16]) -> uint8x16_t {
    // SAFETY: the reference is to the 16 bytes that are read.
    unsafe { vld1q_u8(from.as_ptr()) }
}

/// Four k-steps of each row, from k-step `4 * group` of a line on.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn load_rows<const R: usize>(a: &[Line; R], group: usize) -> [int8x16_t; R] {
    let mut values = [vdupq_n_s8(0); R];
    for r in 0..R {
        values[r] = load_signed(&a[r].bytes().as_chunks().0[group]);
    }
    values
}

#[target_feature(enable = "neon")]
#[inline]
fn load_signed(from: &[u8; 16]) -> int8x16_t {
    vreinterpretq_s8_u8(load_16(from))
}

/// The codes of four columns, then those of the next four.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn load_codes(from: &Codes) -> [int8x16_t; 2] {
    let from: &[[u8; 16]; 2] = bytemuck::cast_ref(from);
    [load_signed(&from[0]), load_signed(&from[1])]
}

/// The low nibbles of packed codes, and the high ones.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn load_nibbles(from: &Codes) -> [[int8x16_t; 2]; 2] {
    let [a, b] = load_codes(from).map(|codes| vreinterpretq_u8_s8(codes));
    let low = [vandq_u8(a, vdupq_n_u8(15)), vandq_u8(b, vdupq_n_u8(15))];
    let high = [vshrq_n_u8::<4>(a), vshrq_n_u8::<4>(b)];
    [low.map(|codes| vreinterpretq_s8_u8(codes)), high.map(|codes| vreinterpretq_s8_u8(codes))]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn codes_as_lanes(from: &Codes) -> Ints {
    load_codes(from).map(|codes| vreinterpretq_s32_s8(codes))
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn load_ints(from: &[i32]) -> Ints {
    let from: &[i32; 8] = from.try_into().expect("a lane each");
    // SAFETY: the reference is to the 16 bytes that are read, and 16 more.
    let low = unsafe { vld1q_s32(from.as_ptr()) };
    // SAFETY: the last 16 of the 32 bytes.
    let high = unsafe { vld1q_s32(from[4..].as_ptr()) };
    [low, high]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn load(from: &[f32]) -> Floats {
    let from: &[f32; 8] = from.try_into().expect("a lane each");
    // SAFETY: the reference is to the 16 bytes that are read, and 16 more.
    let low = unsafe { vld1q_f32(from.as_ptr()) };
    // SAFETY: the last 16 of the 32 bytes.
    let high = unsafe { vld1q_f32(from[4..].as_ptr()) };
    [low, high]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn load_bytes(from: &[u8]) -> Ints {
    let from: &[u8; 8] = from.try_into().expect("a lane each");
    // SAFETY: the reference is to the 8 bytes that are read.
    let bytes = unsafe { vld1_s8(from.as_ptr().cast()) };
    let wide = vmovl_s8(bytes);
    [vmovl_s16(vget_low_s16(wide)), vmovl_high_s16(wide)]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn load_unsigned(from: &[u8]) -> Ints {
    let from: &[u8; 8] = from.try_into().expect("a lane each");
    // SAFETY: the reference is to the 8 bytes that are read.
    let bytes = unsafe { vld1_u8(from.as_ptr()) };
    let wide = vmovl_u8(bytes);
    let (low, high) = (vmovl_u16(vget_low_u16(wide)), vmovl_high_u16(wide));
    [vreinterpretq_s32_u32(low), vreinterpretq_s32_u32(high)]
}

/// In assembly: Rust 1.89 has no intrinsic for it.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn load_halves(from: &[u16]) -> Floats {
    let from: &[u16; 8] = from.try_into().expect("a lane each");
    // SAFETY: the reference is to the 16 bytes that are read.
    let halves = unsafe { vld1q_u16(from.as_ptr()) };
    let (low, high): (float32x4_t, float32x4_t);
    // SAFETY: two instructions of NEON, whose results depend on their input alone. The first output is written
    // before the input is read for the last time, so it is not one of `lateout`.
    unsafe {
        asm!(
            "fcvtl {low:v}.4s, {halves:v}.4h",
            "fcvtl2 {high:v}.4s, {halves:v}.8h",
            halves = in(vreg) halves,
            low = out(vreg) low,
            high = lateout(vreg) high,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [low, high]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn store_ints(ints: Ints, out: &mut [i32]) {
    let out: &mut [i32; 8] = out.try_into().expect("a lane each");
    // SAFETY: the reference is to the 16 bytes that are written, and 16 more.
    unsafe { vst1q_s32(out.as_mut_ptr(), ints[0]) };
    // SAFETY: the last 16 of the 32 bytes.
    unsafe { vst1q_s32(out[4..].as_mut_ptr(), ints[1]) };
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn store(floats: Floats, out: &mut [f32]) {
    let out: &mut [f32; 8] = out.try_into().expect("a lane each");
    // SAFETY: the reference is to the 16 bytes that are written, and 16 more.
    unsafe { vst1q_f32(out.as_mut_ptr(), floats[0]) };
    // SAFETY: the last 16 of the 32 bytes.
    unsafe { vst1q_f32(out[4..].as_mut_ptr(), floats[1]) };
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn add_ints(a: Ints, b: Ints) -> Ints {
    [vaddq_s32(a[0], b[0]), vaddq_s32(a[1], b[1])]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn sub_ints(a: Ints, b: Ints) -> Ints {
    [vsubq_s32(a[0], b[0]), vsubq_s32(a[1], b[1])]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn subtract_product(sum: Ints, a: Ints, b: Ints) -> Ints {
    [vmlsq_s32(sum[0], a[0], b[0]), vmlsq_s32(sum[1], a[1], b[1])]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn max(a: Ints, b: Ints) -> Ints {
    [vmaxq_s32(a[0], b[0]), vmaxq_s32(a[1], b[1])]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn max_unsigned(a: Ints, b: Ints) -> Ints {
    let largest = |i: usize| vmaxq_u32(vreinterpretq_u32_s32(a[i]), vreinterpretq_u32_s32(b[i]));
    [vreinterpretq_s32_u32(largest(0)), vreinterpretq_s32_u32(largest(1))]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn half(a: Ints) -> Ints {
    [vshrq_n_s32::<1>(a[0]), vshrq_n_s32::<1>(a[1])]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn split_nibbles(packed: Ints) -> [Ints; 2] {
    let bytes = packed.map(|packed| vreinterpretq_u8_s32(packed));
    let low = bytes.map(|bytes| vreinterpretq_s32_u8(vandq_u8(bytes, vdupq_n_u8(15))));
    let high = bytes.map(|bytes| vreinterpretq_s32_u8(vshrq_n_u8::<4>(bytes)));
    [low, high]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn to_floats(ints: Ints) -> Floats {
    [vcvtq_f32_s32(ints[0]), vcvtq_f32_s32(ints[1])]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn to_bits(floats: Floats) -> Ints {
    [vreinterpretq_s32_f32(floats[0]), vreinterpretq_s32_f32(floats[1])]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn bits(from: &[f32]) -> Ints {
    load_ints(bytemuck::cast_slice(from))
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn power_of_two(n: Ints) -> Floats {
    let biased = add_ints(n, splat_int(127));
    biased.map(|biased| vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased)))
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn splat(value: f32) -> Floats {
    [vdupq_n_f32(value); 2]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn add(a: Floats, b: Floats) -> Floats {
    [vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1])]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn sub(a: Floats, b: Floats) -> Floats {
    [vsubq_f32(a[0], b[0]), vsubq_f32(a[1], b[1])]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn mul(a: Floats, b: Floats) -> Floats {
    [vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1])]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn div(a: Floats, b: Floats) -> Floats {
    [vdivq_f32(a[0], b[0]), vdivq_f32(a[1], b[1])]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn fused(a: Floats, b: Floats, c: Floats) -> Floats {
    [vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])]
}

/// `fmin` would give NaN for NaN, and -0 for two zeros.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn least(a: Floats, b: Floats) -> Floats {
    let least = |i: usize| vbslq_f32(vcltq_f32(a[i], b[i]), a[i], b[i]);
    [least(0), least(1)]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn greatest(a: Floats, b: Floats) -> Floats {
    let greatest = |i: usize| vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i]);
    [greatest(0), greatest(1)]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn relu(a: Floats) -> Floats {
    a.map(|a| vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), vcgtzq_f32(a))))
}

/// With the byte as the highest one of its lane and 0 in the others, the lane is the code times `2^24`.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn byte<const J: usize>(lanes: Ints) -> Floats {
    match J {
        0 => lanes.map(|lane| vcvtq_n_f32_s32::<24>(vshlq_n_s32::<24>(lane))),
        1 => looked_up(lanes, const { &highest(1) }),
        2 => looked_up(lanes, const { &highest(2) }),
        _ => lanes.map(|lane| vcvtq_f32_s32(vshrq_n_s32::<24>(lane))),
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn looked_up(lanes: Ints, at: &[u8; 16]) -> Floats {
    let at = load_16(at);
    lanes.map(|lane| {
        let highest = vqtbl1q_s8(vreinterpretq_s8_s32(lane), at);
        vcvtq_n_f32_s32::<24>(vreinterpretq_s32_s8(highest))
    })
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn nibbles(zero: f32) -> Nibbles {
    [23, 19, 15, 11].map(|exponent| vdupq_n_f32((1 << exponent) as f32 + zero))
}

/// The low 23 bits of a float from `2^23` to `2^24` are the number minus `2^23`. With an exponent that is smaller by
/// 4, they are 16 times the number, and so on.
///
/// Half a lane has four codes. All bits that occur in the exponents of the four are set above them at once; the
/// mask that selects a code also selects its own exponent.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn nibble<const J: usize>(lanes: Ints, of: Nibbles) -> Floats {
    let (upper, place) = (nibble_at(J) / 4 == 1, nibble_at(J) % 4);
    let exponent = 23 - 4 * place as i32;
    let mask = vdupq_n_s32((exponent + 127) << 23 | 15 << (4 * place));
    lanes.map(|lane| {
        let lane = vreinterpretq_u32_s32(lane);
        let codes = if upper { vshrq_n_u32::<16>(lane) } else { lane };
        let exponents = vdupq_n_u32(NIBBLE_EXPONENTS as u32);
        let codes = vreinterpretq_s32_u32(vbslq_u32(vdupq_n_u32(0xffff), codes, exponents));
        vsubq_f32(vreinterpretq_f32_s32(vandq_s32(codes, mask)), of[place])
    })
}

/// Narrowing saturates, which clamps. Values too small for i32 become its minimum; values too large are clamped
/// before, and so is NaN: `fminnm` gives the number.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn quantize(
    by: Reciprocal,
    values: &[f32; QUANTIZE_LANES],
    codes: &mut [u8; QUANTIZE_LANES],
) -> bool {
    let mut farthest = [vdupq_n_f32(0.0); 2];
    let (values, codes) = (values.as_chunks::<16>().0, codes.as_chunks_mut::<16>().0);
    for (values, codes) in values.iter().zip(codes) {
        let [a, b] = [load(&values[..8]), load(&values[8..])].map(|values| {
            values.map(|value| vminnmq_f32(vmulq_n_f32(value, by.inverse), vdupq_n_f32(512.0)))
        });
        let [c, d] = [a, b].map(|quotients| quotients.map(|quotient| vcvtnq_s32_f32(quotient)));
        for (quotients, rounded) in [(a, c), (b, d)] {
            for i in 0..2 {
                let distance = vabdq_f32(quotients[i], vcvtq_f32_s32(rounded[i]));
                farthest[i] = vmaxq_f32(farthest[i], distance);
            }
        }
        store_codes([narrow(c, by.zero_point), narrow(d, by.zero_point)], by.range, codes);
    }
    let near = vcltq_f32(vmaxq_f32(farthest[0], farthest[1]), vdupq_n_f32(by.near_tie));
    vminvq_u32(near) == 0
}

/// Narrows to i16 and adds a number.
#[target_feature(enable = "neon")]
#[inline]
fn narrow(rounded: Ints, zero_point: i16) -> int16x8_t {
    let narrow = vqmovn_high_s32(vqmovn_s32(rounded[0]), rounded[1]);
    vqaddq_s16(narrow, vdupq_n_s16(zero_point))
}

/// Stores i16 as bytes, clamped to a range.
#[target_feature(enable = "neon")]
#[inline]
fn store_codes(codes: [int16x8_t; 2], range: (u8, u8), to: &mut [u8; 16]) {
    let codes = vqmovun_high_s16(vqmovun_s16(codes[0]), codes[1]);
    let codes = vminq_u8(vmaxq_u8(codes, vdupq_n_u8(range.0)), vdupq_n_u8(range.1));
    store_16(codes, to);
}
