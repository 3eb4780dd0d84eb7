//! What is larger than the memory that is allowed goes from file to file in pieces, and gives the bytes
//! that it gives whole.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use quant::quantize::mixed::{MixedPrecision, Precision};
use quant::record::{Record, RecordState};
use quant::tensor::{FloatType, SharedTensor};
use quant::{BincodeRecorder, Module, Recipe, Rule, Tensor};
use quant_formats::{Checkpoint, CheckpointError, GgufEncoding, Inputs, Options};
use tests::random::Random;

/// The memory of the process besides tensors, as jobs count it.
const OVERHEAD: u64 = 24 << 20;

/// Schemes that divide a tensor.
const SCHEMES: [&str; 12] = [
    "per-channel-symmetric-int8",
    "per-channel-affine-int8",
    "per-channel-full-range-int4",
    "per-channel-symmetric-int3",
    "per-channel-minimum-int2",
    "per-channel-symmetric-int6:axis=-2",
    "per-block-symmetric-int4:len=32",
    "per-block-affine-int5:len=40:scale=f16",
    "per-block-full-range-int8:len=7",
    "per-block-minimum-int4:len=32:scale=bf16",
    "per-block-symmetric-int7:len=1000",
    "per-block-affine-int2:len=3",
];

/// Tensors of some hundreds of thousands of bytes in each float type, of ranks 1 to 3, and a state.
fn model() -> Record {
    let mut random = Random(7);
    let mut values = |n: usize| (0..n).map(|_| random.unit() - 0.5).collect::<Vec<f32>>();
    let mut record = Record::new();
    record.insert("a.weight", Tensor::from_values(&[61, 1120], values(61 * 1120)).unwrap());
    record.insert("a.bias", Tensor::from_values(&[70_000], values(70_000)).unwrap());
    let bf16 = values(83 * 1440).into_iter().map(|value| (value.to_bits() >> 16) as u16).collect();
    let bf16 = SharedTensor::from_half_bits(&[83, 1440], FloatType::Bf16, bf16).unwrap();
    record.insert("b.weight", Tensor::from(bf16));
    let f16 = (0..5 * 40 * 480u32).map(|i| (i * 37 % 0x3C00) as u16).collect();
    let f16 = SharedTensor::from_half_bits(&[5, 40, 480], FloatType::F16, f16).unwrap();
    record.insert("c.weight", Tensor::from(f16));
    let data = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    record.insert_state(RecordState { id: "ids".into(), kind: "tensor/I32 [75000]".into(), data });
    record
}

fn recipe(scheme: &str) -> Recipe {
    Recipe::new().scheme(scheme.parse().unwrap())
}

/// Options that leave this much memory for tensors.
fn within(bytes: u64) -> Options<'static> {
    let mut options = Options::default();
    options.max_memory = Some(OVERHEAD + bytes);
    options.jobs = NonZero::new(2);
    options
}

/// The least memory for a job, as its error says.
fn least(run: impl Fn(Options<'_>) -> Result<(), CheckpointError>) -> u64 {
    match run(within(0)).unwrap_err() {
        CheckpointError::Memory { needed, .. } => needed - OVERHEAD,
        error => panic!("{error:?}"),
    }
}

fn open(path: impl AsRef<Path>) -> Checkpoint {
    quant_formats::open(path).unwrap()
}

/// The model as a record, as safetensors, and as GGUF without what that cannot hold.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let path = |name: &str| directory.join(name);
    model().save_file(path("model.quant"), &BincodeRecorder::default()).unwrap();
    let record = open(path("model.quant"));
    quant_formats::convert(&record, path("model.safetensors"), Options::default()).unwrap();
    quant_formats::convert(&record, path("model.gguf"), Options::default()).unwrap();
    ["model.quant", "model.safetensors", "model.gguf"].map(path).into()
}

#[test]
fn pieces_of_every_scheme_give_the_bytes_and_the_plan_of_the_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (whole, pieces) = (directory.path().join("whole"), directory.path().join("pieces"));
    for from in sources(directory.path()) {
        let from = open(from);
        for scheme in SCHEMES {
            let recipe = recipe(scheme).rule(Rule::keep("c.weight"));
            for extension in ["quant", "safetensors"] {
                let (whole, pieces) =
                    (whole.with_extension(extension), pieces.with_extension(extension));
                let quantize = |to: &Path, options: Options<'_>| {
                    quant_formats::quantize(&from, &recipe, to, options)
                };
                let plan = quantize(&whole, Options::default()).unwrap();
                let expected = fs::read(&whole).unwrap();
                let least = least(|options| quantize(&pieces, options).map(drop));
                assert!(least < 1 << 20, "{scheme}: {least}");
                for memory in [least, 3 * least + 50_000] {
                    assert_eq!(quantize(&pieces, within(memory)).unwrap(), plan, "{scheme}");
                    assert!(fs::read(&pieces).unwrap() == expected, "{scheme} in {memory}");
                }
                let again = quant_formats::plan(&from, &recipe, within(least)).unwrap();
                assert_eq!(again, plan, "{scheme}");
            }
        }
    }
}

#[test]
fn copies_in_pieces_are_those_of_the_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (whole, pieces) = (directory.path().join("whole"), directory.path().join("pieces"));
    for from in sources(directory.path()) {
        let from = open(from);
        for extension in ["quant", "safetensors", "gguf"] {
            let (whole, pieces) =
                (whole.with_extension(extension), pieces.with_extension(extension));
            quant_formats::convert(&from, &whole, Options::default()).unwrap();
            let least = least(|options| quant_formats::convert(&from, &pieces, options));
            assert!(least < 600_000, "{extension}: {least}");
            quant_formats::convert(&from, &pieces, within(least)).unwrap();
            assert!(fs::read(&pieces).unwrap() == fs::read(&whole).unwrap(), "{extension}");
        }
    }
}

#[test]
fn shards_of_a_record_are_written_in_pieces() {
    let directory = tempfile::tempdir().unwrap();
    let from = open(&sources(directory.path())[1]);
    let (whole, pieces) = (directory.path().join("a.quant"), directory.path().join("b.quant"));
    let write = |to: &Path, mut options: Options<'_>| {
        options.max_shard_size = Some(200_000);
        quant_formats::quantize(&from, &recipe("per-channel-symmetric-int8"), to, options)
    };
    write(&whole, Options::default()).unwrap();
    write(&pieces, within(600_000)).unwrap();
    let [whole, pieces] = [whole, pieces].map(open);
    assert!(whole.files().count() > 2);
    for index in 0..whole.entries().len() {
        assert_eq!(whole.read(index).unwrap(), pieces.read(index).unwrap());
        pieces.verify(index).unwrap();
    }
    assert_eq!(whole.states().unwrap(), pieces.states().unwrap());
}

#[test]
fn blocks_of_gguf_are_made_and_read_in_pieces() {
    let directory = tempfile::tempdir().unwrap();
    let (whole, pieces) =
        (directory.path().join("whole.gguf"), directory.path().join("pieces.gguf"));
    let keep = recipe("per-tensor-symmetric-int8");
    for from in sources(directory.path()) {
        let from = open(from);
        for encoding in [GgufEncoding::Q8_0, GgufEncoding::Q4_0, GgufEncoding::Q4_1] {
            let quantize = |to: &Path, options: Options<'_>| {
                quant_formats::quantize_to_blocks(&from, encoding, &keep, to, options)
            };
            let encoded = quantize(&whole, Options::default()).unwrap();
            let least = least(|options| quantize(&pieces, options).map(drop));
            assert_eq!(quantize(&pieces, within(least)).unwrap(), encoded);
            assert!(fs::read(&pieces).unwrap() == fs::read(&whole).unwrap(), "{encoding}");

            let blocks = open(&whole);
            for extension in ["quant", "safetensors"] {
                let floats = directory.path().join("whole").with_extension(extension);
                let parts = directory.path().join("parts").with_extension(extension);
                quant_formats::dequantize(&blocks, &floats, Options::default()).unwrap();
                quant_formats::dequantize(&blocks, &parts, within(2_000_000)).unwrap();
                assert!(fs::read(&parts).unwrap() == fs::read(&floats).unwrap(), "{encoding}");
            }
        }
    }
}

#[test]
fn directories_are_written_in_pieces() {
    let directory = tempfile::tempdir().unwrap();
    let from = open(&sources(directory.path())[1]);
    for (number, (scheme, inputs)) in [
        ("per-channel-symmetric-int8", Inputs::Dynamic),
        ("per-channel-affine-int8", Inputs::Float),
        ("per-channel-affine-int3", Inputs::Float),
        ("per-channel-affine-int6", Inputs::Float),
        ("per-block-symmetric-int4:len=32", Inputs::Float),
        ("per-block-affine-int4:len=160:scale=f16", Inputs::Float),
    ]
    .into_iter()
    .enumerate()
    {
        let recipe = recipe(scheme);
        let write = |to: &Path, mut options: Options<'_>| {
            options.max_shard_size = Some(300_000);
            quant_formats::quantize_folder(&from, &recipe, inputs, to, options)
        };
        let (whole, pieces) = (
            directory.path().join(format!("w{number}")),
            directory.path().join(format!("p{number}")),
        );
        let plan = write(&whole, Options::default()).unwrap();
        assert_eq!(write(&pieces, within(1_600_000)).unwrap(), plan, "{scheme}");
        for name in tests::files::names(&whole) {
            let read = |directory: &Path| fs::read(directory.join(&name)).unwrap();
            assert!(read(&whole) == read(&pieces), "{scheme}: {name}");
        }
    }
}

#[test]
fn a_choice_within_a_budget_is_the_same_in_pieces() {
    let directory = tempfile::tempdir().unwrap();
    let from = open(&sources(directory.path())[1]);
    let precisions: [Precision; 3] = [
        "per-channel-symmetric-int8".parse().unwrap(),
        "per-block-symmetric-int4:len=32".parse().unwrap(),
        Precision::Float,
    ];
    let mixed = MixedPrecision::new("70%".parse().unwrap(), precisions);
    let whole = quant_formats::choose(&from, &mixed, Options::default()).unwrap();
    let least = least(|options| quant_formats::choose(&from, &mixed, options).map(drop));
    let pieces = quant_formats::choose(&from, &mixed, within(least)).unwrap();
    assert_eq!(pieces.error.to_bits(), whole.error.to_bits());
    let plan = |choice| quant_formats::plan(&from, choice, Options::default()).unwrap();
    assert_eq!(plan(&pieces), plan(&whole));
}

#[test]
fn a_better_axis_is_found_in_pieces() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.quant");
    let value = |i: usize| if i.is_multiple_of(300) { 90.0 } else { (i % 7) as f32 - 3.1 };
    let values = (0..400 * 300).map(value).collect();
    let mut record = Record::new();
    record.insert("w", Tensor::from_values(&[400, 300], values).unwrap());
    record.save_file(&path, &BincodeRecorder::default()).unwrap();
    for scheme in ["per-channel-symmetric-int8", "per-block-symmetric-int8:len=300"] {
        let plan = |options| quant_formats::plan(&open(&path), &recipe(scheme), options).unwrap();
        let [whole, pieces] = [Options::default(), within(60_000)].map(plan);
        assert_eq!(pieces, whole, "{scheme}");
        let text = whole.params()[0].warning.unwrap().to_string();
        assert_eq!(text, "channels along axis 1 would be better by about 29 dB", "{scheme}");
    }
}

#[test]
fn errors_in_a_piece_have_the_position_in_the_tensor() {
    let directory = tempfile::tempdir().unwrap();
    let (path, to) = (directory.path().join("a.quant"), directory.path().join("b.quant"));
    let mut values = vec![0.5; 60 * 2000];
    values[57 * 2000 + 3] = f32::NAN;
    let mut record = Record::new();
    record.insert("w", Tensor::from_values(&[60, 2000], values).unwrap());
    record.save_file(&path, &BincodeRecorder::default()).unwrap();
    let recipe = recipe("per-channel-symmetric-int8");
    let run = |options| quant_formats::quantize(&open(&path), &recipe, &to, options).unwrap_err();
    let [whole, pieces] = [Options::default(), within(30_000)].map(run);
    assert_eq!(tests::record::chain(&pieces), tests::record::chain(&whole));
    assert!(tests::record::chain(&whole).contains("114003"), "{}", tests::record::chain(&whole));

    let keep = Recipe::new().scheme("per-channel-symmetric-int8".parse().unwrap());
    let plan =
        quant_formats::plan(&open(&path), &keep.rule(Rule::keep("w")), within(600_000)).unwrap();
    assert_eq!(plan.params()[0].warning.unwrap().to_string(), "1 value is not finite");
}

#[test]
fn a_code_of_infinity_in_a_piece_has_the_group_of_the_tensor() {
    let directory = tempfile::tempdir().unwrap();
    let (path, to) = (directory.path().join("a.quant"), directory.path().join("b.quant"));
    let mut values = vec![0.5; 60 * 2000];
    values[57 * 2000 + 3] = f32::MAX;
    values[57 * 2000 + 4] = f32::MIN;
    let mut record = Record::new();
    record.insert("w", Tensor::from_values(&[60, 2000], values).unwrap());
    record.save_file(&path, &BincodeRecorder::default()).unwrap();
    let recipe = recipe("per-channel-affine-int8");
    let run = |options| quant_formats::quantize(&open(&path), &recipe, &to, options).unwrap_err();
    for error in [Options::default(), within(30_000)].map(run) {
        let said = tests::record::chain(&error);
        assert!(said.contains("group 57: the code of -3.4028235e38 stands for"), "{said}");
    }
}

#[test]
fn damage_in_a_record_is_found_in_pieces() {
    let directory = tempfile::tempdir().unwrap();
    let (path, to) = (directory.path().join("a.quant"), directory.path().join("b.safetensors"));
    model().save_file(&path, &BincodeRecorder::default()).unwrap();
    let bytes = fs::read(&path).unwrap();
    // In the first tensor, in padding, and in the state at the end.
    for at in [30_000, bytes.len() - 200_000] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let error = quant_formats::convert(&open(&path), &to, within(600_000)).unwrap_err();
        assert!(
            tests::record::chain(&error).contains("checksum"),
            "{}",
            tests::record::chain(&error)
        );
        assert!(!to.exists());
    }
}

#[test]
fn what_cannot_be_divided_says_what_memory_would_do() {
    let directory = tempfile::tempdir().unwrap();
    let from = open(&sources(directory.path())[1]);
    let to = directory.path().join("b.quant");
    for scheme in ["per-tensor-symmetric-int8", "per-channel-symmetric-int8:axis=-1"] {
        let quantize =
            |options| quant_formats::quantize(&from, &recipe(scheme), &to, options).map(drop);
        let error = quantize(within(300_000)).unwrap_err();
        let CheckpointError::Memory { id, needed, .. } = error else { panic!("{error:?}") };
        // The values of the largest tensor in two bytes and in four, and its codes twice.
        assert_eq!(id.unwrap(), "b.weight");
        assert!(needed - OVERHEAD < 83 * 1440 * 9, "{needed}");
        quantize(within(needed - OVERHEAD)).unwrap();
    }
}

#[test]
fn progress_counts_all_values_of_a_tensor() {
    let directory = tempfile::tempdir().unwrap();
    let from = open(&sources(directory.path())[1]);
    let told = Mutex::new(vec![0; from.entries().len()]);
    let progress = |index: usize, bytes: u64| told.lock().unwrap()[index] += bytes;
    let mut options = within(600_000);
    options.progress = Some(&progress);
    quant_formats::plan(&from, &recipe("per-channel-symmetric-int8"), options).unwrap();
    let expected: Vec<u64> =
        from.entries().iter().map(|entry| 4 * entry.element_count() as u64).collect();
    assert_eq!(told.into_inner().unwrap(), expected);
}

/// Public reports have tensors of more than 2^31 elements, which break other tools.
#[cfg(unix)]
#[test]
fn a_tensor_of_more_than_two_to_the_31_elements_fits_into_little_memory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.safetensors");
    let (rows, columns) = (65_537u64, 32_768);
    let data = 2 * rows * columns;
    let header = format!(
        r#"{{"w":{{"dtype":"BF16","shape":[{rows},{columns}],"data_offsets":[0,{data}]}}}}"#
    );
    let mut start = (header.len() as u64).to_le_bytes().to_vec();
    start.extend(header.bytes());
    let len = start.len() as u64 + data;
    let file = fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut &file, &start).unwrap();
    if file.set_len(len).is_err() {
        eprintln!("SKIPPED: no sparse file of 4 GiB");
        return;
    }
    // The last row has values.
    let last: Vec<u8> = (0..columns).flat_map(|_| 0x3F80u16.to_le_bytes()).collect();
    std::os::unix::fs::FileExt::write_all_at(&file, &last, len - 2 * columns).unwrap();
    let plan =
        quant_formats::plan(&open(&path), &recipe("per-channel-symmetric-int8"), within(64 << 20));
    let plan = plan.unwrap();
    assert_eq!(plan.params()[0].expected.unwrap().scales, (1.0 / 127.0, 1.0));
    assert_eq!(plan.bytes_before(), data);
    let error =
        quant_formats::plan(&open(&path), &recipe("per-tensor-symmetric-int8"), within(64 << 20));
    assert!(matches!(error, Err(CheckpointError::Memory { .. })), "{error:?}");
}

#[test]
fn codes_are_copied_and_dequantized_in_pieces() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let floats = open(&sources(directory.path())[1]);
    for scheme in SCHEMES {
        let recipe = recipe(scheme).rule(Rule::keep("c.weight"));
        for source in ["codes.quant", "codes.safetensors"] {
            quant_formats::quantize(&floats, &recipe, at(source), Options::default()).unwrap();
            let from = open(at(source));
            for target in ["quant", "safetensors"] {
                let (whole, pieces) =
                    (at("whole").with_extension(target), at("pieces").with_extension(target));
                let copy =
                    |to: &Path, options: Options<'_>| quant_formats::convert(&from, to, options);
                copy(&whole, Options::default()).unwrap();
                let memory = least(|options| copy(&pieces, options));
                assert!(memory < 700_000, "{scheme}: {memory}");
                copy(&pieces, within(memory)).unwrap();
                assert!(fs::read(&pieces).unwrap() == fs::read(&whole).unwrap(), "{scheme}");

                let float =
                    |to: &Path, options: Options<'_>| quant_formats::dequantize(&from, to, options);
                float(&whole, Options::default()).unwrap();
                let memory = least(|options| float(&pieces, options));
                float(&pieces, within(memory)).unwrap();
                assert!(fs::read(&pieces).unwrap() == fs::read(&whole).unwrap(), "{scheme}");
            }
        }
    }
}

#[test]
fn damage_in_codes_and_scales_is_found_in_pieces() {
    let directory = tempfile::tempdir().unwrap();
    let (path, to) = (directory.path().join("a.quant"), directory.path().join("b.safetensors"));
    let floats = open(&sources(directory.path())[1]);
    let recipe = recipe("per-block-affine-int4:len=16");
    quant_formats::quantize(&floats, &recipe, &path, Options::default()).unwrap();
    let bytes = fs::read(&path).unwrap();
    let record = quant::record::RecordFile::open(&path).unwrap();
    let index = record.position("b.weight").unwrap();
    for section in record.sections(index) {
        for at in [section.offset, section.offset + section.len - 1] {
            let mut damaged = bytes.clone();
            damaged[at as usize] ^= 1;
            fs::write(&path, &damaged).unwrap();
            let error = quant_formats::convert(&open(&path), &to, within(700_000)).unwrap_err();
            let said = tests::record::chain(&error);
            let expected = format!("b.weight: {} damaged", section.kind);
            assert!(said.contains(&expected) || said.contains("b.weight: "), "{said}");
            assert!(!to.exists());
        }
    }
}
