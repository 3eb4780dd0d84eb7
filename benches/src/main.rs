//! Side-by-side timings, as JSON rows or as a table: `cargo run --release -p benches -- [--json] NAME…`.

mod data;
mod gemm;
mod limits;
mod measure;
mod quantize;

fn main() {
    let mut json = false;
    let mut names = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => json = true,
            _ => names.push(argument),
        }
    }
    let report = measure::Report::new(json);
    for name in &names {
        match name.as_str() {
            "gemm" => gemm::run(&report),
            "limits" => limits::run(&report),
            "quantize" => quantize::run(&report),
            "quick" => quick(&report),
            _ => {
                eprintln!("no bench is called `{name}`; there are limits, gemm, quantize");
                std::process::exit(2);
            }
        }
    }
}

fn quick(report: &measure::Report) {
    use measure::Subject;
    use quant::kernel::{Kernel, SubByte};
    let n = 4096 * 4096;
    let values: Vec<f32> = (0..n).map(|i| ((i * 7919) % 10007) as f32 / 5000.0 - 1.0).collect();
    let mut copy = vec![0.0f32; n];
    let mut codes = vec![0i8; n];
    let mut codes2 = vec![1i8; n];
    let mut packed = vec![0u8; n / 2];
    let mut packed2 = vec![7u8; n / 2];
    let mut back = vec![0.0f32; n];
    let mut back4 = vec![0.0f32; n];
    for k in Kernel::available() {
        let mut subjects = vec![
            Subject::new("memcpy", || copy.copy_from_slice(&values)),
            Subject::new("min_max", || {
                std::hint::black_box(k.min_max(&values).unwrap());
            }),
            Subject::new("quantize", || k.quantize(&values, 0.01, 3, -128, 127, &mut codes)),
            Subject::new("dequantize", || k.dequantize(&codes2, 0.01, 3, &mut back)),
            Subject::new("quantize4", || {
                k.quantize_packed(SubByte::Four, &values, 0.2, 3, -8, 7, &mut packed);
            }),
            Subject::new("dequantize4", || {
                k.dequantize_packed(SubByte::Four, &packed2, 0.2, 3, &mut back4);
            }),
        ];
        report.rows("quick", k.name(), 1, 11, &mut subjects);
        drop(subjects);
        codes2[0] ^= 1;
        packed2[0] ^= 1;
    }
}
