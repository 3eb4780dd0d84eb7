//! Ranges, quantization and dequantization of slices: every kernel against rule 3 as it is written.

use quant::kernel::{BitWidth, Kernel, KernelUnavailable};
use quant::scheme::QuantParams;
use tests::kernels::{kernels, quantization};
use tests::random::Random;

fn reference(value: f32, scale: f32, zero_point: i8, (qmin, qmax): (i8, i8)) -> i8 {
    let rounded = f64::from((value / scale).round_ties_even());
    (rounded + f64::from(zero_point)).clamp(f64::from(qmin), f64::from(qmax)) as i8
}

/// Ordinary values, exact ties, neighbours of ties, huge and tiny ones.
fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..len)
        .map(|_| match random.below(8) {
            0 => random.below(600) as f32 - 300.0 + 0.5,
            1 => f32::from_bits((random.below(300) as f32 + 0.5).to_bits() + 1),
            2 => -f32::from_bits((random.below(300) as f32 + 0.5).to_bits() - 1),
            3 => [f32::MAX, f32::MIN, 1e-45, -1e-45, 0.0, -0.0, 512.5, -512.5][random.below(8)],
            _ => random.normal() * 60.0,
        })
        .collect()
}

const LENGTHS: [usize; 14] = [0, 1, 2, 3, 31, 63, 64, 65, 127, 128, 129, 1000, 4096, 9001];

#[test]
fn codes_are_those_of_rule_3() {
    for kernel in kernels() {
        for len in LENGTHS {
            for (scale, z, qmin, qmax) in [
                (1.0, 0, -127, 127),
                (0.37, -3, -128, 127),
                (f32::MIN_POSITIVE, 100, -128, 127),
                (3.0e38, 1, -128, 127),
                (2.0, -8, -8, 7),
            ] {
                let values = values(len, 7 + len as u64);
                let mut codes = vec![0; len];
                let quantization = quantization(scale, z, (qmin, qmax));
                kernel.quantize(&values, quantization, &mut codes);
                for (code, &value) in codes.iter().zip(&values) {
                    assert_eq!(
                        *code,
                        reference(value, scale, z, (qmin, qmax)),
                        "{kernel} {value:e}"
                    );
                }
                let mut back = vec![0.0; len];
                kernel.dequantize(&codes, quantization.params, &mut back);
                for (value, code) in back.iter().zip(&codes) {
                    let expected = (i32::from(*code) - i32::from(z)) as f32 * scale;
                    assert_eq!(value.to_bits(), expected.to_bits(), "{kernel}");
                }
            }
        }
    }
}

#[test]
fn infinities_saturate_and_nan_becomes_the_greatest_code_everywhere() {
    let values = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN].repeat(50);
    for kernel in kernels() {
        let mut codes = vec![0; values.len()];
        kernel.quantize(&values, quantization(0.1, 5, (-128, 127)), &mut codes);
        assert!(codes.chunks(3).all(|codes| codes == [127, -128, 127]), "{kernel}");
    }
}

#[test]
fn the_range_is_found_wherever_its_ends_are() {
    for kernel in kernels() {
        for len in LENGTHS.into_iter().filter(|len| *len > 1) {
            for at in [0, len / 3, len - 1] {
                let mut values: Vec<f32> = (0..len).map(|i| (i % 7) as f32).collect();
                values[at] = -3.5;
                values[(at + 1) % len] = 8.25;
                assert_eq!(kernel.min_max(&values), Ok((-3.5, 8.25)), "{kernel} {len} {at}");
            }
        }
    }
}

#[test]
fn a_zero_range_is_positive_zero_whatever_the_signs() {
    for kernel in kernels() {
        for values in [[-0.0, 0.0].repeat(70), [0.0, -0.0].repeat(70), vec![-0.0; 70]] {
            let (lo, hi) = kernel.min_max(&values).unwrap();
            assert_eq!((lo.to_bits(), hi.to_bits()), (0, 0), "{kernel}");
        }
        assert_eq!(kernel.min_max(&[]), Ok((f32::INFINITY, f32::NEG_INFINITY)));
    }
}

#[test]
fn the_first_non_finite_element_is_named() {
    for kernel in kernels() {
        for len in LENGTHS.into_iter().filter(|len| *len > 0) {
            for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in [0, len / 2, len - 1] {
                    let mut values = values(len, 3);
                    values[at] = bad;
                    values[len - 1] = bad;
                    let error = kernel.min_max(&values).unwrap_err();
                    assert_eq!((error.index, error.value.to_bits()), (at, bad.to_bits()));
                    let nan = kernel.first_nan(&values);
                    assert_eq!(nan, bad.is_nan().then_some(at), "{kernel} {len} {at}");
                }
            }
        }
    }
}

#[test]
fn packed_codes_are_the_codes_little_end_first() {
    for kernel in kernels() {
        for (width, qmin, qmax, z) in [(BitWidth::Four, -8, 7, -3), (BitWidth::Two, -2, 1, 1)] {
            for len in LENGTHS {
                let values = values(len, 11);
                let mut codes = vec![0; len];
                let quantization = quantization(9.0, z, (qmin, qmax));
                kernel.quantize(&values, quantization, &mut codes);
                let mut expected = vec![0u8; width.row_bytes(len)];
                for (i, code) in codes.iter().enumerate() {
                    let mask = (1 << width.bits()) - 1;
                    expected[i / width.per_byte()] |=
                        (*code as u8 & mask) << (i % width.per_byte() * width.bits());
                }
                let mut packed = vec![0xff; expected.len()];
                kernel.quantize_packed(width, &values, quantization, &mut packed);
                assert_eq!(packed, expected, "{kernel} {len}");
                packed.fill(0xff);
                kernel.pack(width, &codes, &mut packed);
                assert_eq!(packed, expected, "{kernel} {len}");
                let mut unpacked = vec![99; len];
                kernel.unpack(width, &packed, &mut unpacked);
                assert_eq!(unpacked, codes, "{kernel} {len}");
                let (mut direct, mut via_codes) = (vec![0.0; len], vec![0.0; len]);
                let params = QuantParams::new(0.3, z).unwrap();
                kernel.dequantize_packed(width, &packed, params, &mut direct);
                kernel.dequantize(&codes, params, &mut via_codes);
                assert_eq!(direct, via_codes, "{kernel} {len}");
            }
        }
    }
}

#[test]
fn a_kernel_that_does_not_exist_is_an_error_that_names_it() {
    let error = Kernel::named("avx1024").unwrap_err();
    let known = &Kernel::NAMES;
    assert_eq!(error, KernelUnavailable::Unknown { requested: "avx1024".into(), known });
    assert!(error.to_string().contains("`avx1024`"));
}

#[test]
fn the_environment_chooses_the_kernel() {
    match std::env::var("QUANT_KERNEL") {
        Err(_) => assert_eq!(Kernel::selected(), Ok(Kernel::fastest())),
        Ok(name) => assert_eq!(Kernel::selected(), Kernel::named(&name)),
    }
    assert!(Kernel::available().any(|kernel| kernel == Kernel::SCALAR));
}
