//! Side-by-side timings, as JSON rows or as a table: `cargo run --release -p benches -- [--json] NAME…`.

mod blocks;
#[cfg(feature = "candle")]
mod candle;
mod conv;
mod data;
mod gemm;
mod limits;
mod lm;
mod measure;
mod minilm;
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
    if let [name, arguments @ ..] = &*names
        && name == "lm-process"
    {
        return lm::run_process(arguments);
    }
    let report = measure::Report::new(json);
    for name in &names {
        match name.as_str() {
            "gemm" => gemm::run(&report),
            "limits" => drop(limits::run(&report)),
            "pack" => gemm::pack(&report),
            "conv" => conv::run(&report),
            "quantize" => quantize::run(&report),
            "minilm" => minilm::run(&report),
            "lm" => lm::run(json),
            _ => {
                eprintln!(
                    "no bench is called `{name}`; there are limits, pack, gemm, conv, quantize, minilm, lm"
                );
                std::process::exit(2);
            }
        }
    }
}
