//! Half precision against the crate `half`.

use half::f16;
use quant::scheme::{f16_to_f32, f32_to_f16};
use tests::random::Random;

#[test]
fn every_half_has_the_value_that_the_crate_half_gives_it() {
    for bits in 0..=u16::MAX {
        let expected = f16::from_bits(bits).to_f32();
        assert_eq!(f16_to_f32(bits).to_bits(), expected.to_bits(), "{bits:#06x}");
    }
}

#[test]
fn floats_are_rounded_as_the_crate_half_rounds_them() {
    let check = |bits: u32| {
        let value = f32::from_bits(bits);
        assert_eq!(f32_to_f16(value), f16::from_f32(value).to_bits(), "{bits:#010x}");
    };
    // Each half, the float halfway to the next one, and the neighbours of both.
    for half in 0..=u16::MAX {
        let bits = f16::from_bits(half).to_f32().to_bits();
        for near in [0u32, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF, u32::MAX] {
            check(bits.wrapping_add(near));
        }
    }
    let mut random = Random(16);
    for _ in 0..1_000_000 {
        check(random.bits() as u32);
    }
}
