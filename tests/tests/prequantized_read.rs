//! Checkpoints that other programs have quantized: the values are those of the programs, and what is
//! quantized already is not quantized again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use quant::tensor::QuantizedTensor;
use quant::{Recipe, RecordError};
use quant_formats::__private::import_bytes;
use quant_formats::{
    Checkpoint, CheckpointError, Method, Options, PreQuantizedError, Refusal, Rename, Stored,
};
use quant_nn::Linear;
use tests::mutate::mutate;
use tests::random::Random;
use tests::safetensors::file;

fn golden(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/prequantized").join(folder)
}

fn open(path: impl AsRef<Path>) -> Checkpoint {
    quant_formats::open(path).unwrap()
}

/// A directory with a safetensors file of these tensors, and with a configuration.
fn directory(tensors: &[(&str, &str, &[usize])], config: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    fs::write(&path, file(tensors)).unwrap();
    if !config.is_empty() {
        fs::write(directory.path().join("config.json"), config).unwrap();
    }
    (directory, path)
}

fn refusal(tensors: &[(&str, &str, &[usize])], config: &str) -> String {
    let (_directory, path) = directory(tensors, config);
    let checkpoint = open(path);
    let (tensor, refusal) = checkpoint.prequantized().unwrap().refused().unwrap();
    format!("{}: {}: {refusal}", tensor.id, tensor.encoding)
}

/// For each folder, that is, for each layout.
const MUTATIONS: usize = 100_000;

const FOLDERS: [&str; 10] = [
    "gptq",
    "gptq-v2",
    "gptq-sym",
    "awq",
    "compressed-tensors",
    "fp8",
    "mxfp4",
    "nvfp4",
    "mlx",
    "bitsandbytes",
];

/// For each tensor of the goldens, its scheme, or why it is float.
const STORED: [(&str, &[(&str, &str)]); 10] = [
    (
        "gptq",
        &[
            ("b2", "its zero point 2 is no code"),
            ("b3", "its zero point 4 is no code"),
            ("b4", "its zero point 8 is no code"),
            ("b8", "per-block-affine-int8:scale=f16"),
            ("act_order", "its columns are not in the order of their groups"),
            ("no_index", "its zero point 8 is no code"),
        ],
    ),
    (
        "gptq-v2",
        &[
            ("b4", "per-block-affine-int4:scale=f16"),
            ("act_order", "its columns are not in the order of their groups"),
            ("short", "per-block-affine-int4:scale=f16"),
        ],
    ),
    (
        "gptq-sym",
        &[
            ("b4", "per-block-full-range-int4:scale=f16"),
            ("channel", "per-channel-full-range-int4"),
            ("b8", "per-block-full-range-int8:scale=f16"),
            ("short", "per-block-full-range-int4:scale=f16"),
            ("act_order", "its columns are not in the order of their groups"),
        ],
    ),
    ("awq", &[("a", "per-block-affine-int4:scale=f16"), ("b", "per-channel-affine-int4")]),
    (
        "compressed-tensors",
        &[
            ("int4", "per-block-full-range-int4:scale=bf16"),
            ("affine4", "per-block-affine-int4:scale=bf16"),
            ("dense3", "per-block-affine-int3:scale=bf16"),
            ("whole3", "per-block-full-range-int3:scale=bf16"),
            ("channel8", "per-channel-full-range-int8"),
            ("dense5", "per-block-full-range-int5:scale=bf16"),
            ("act_order", "its columns are not in the order of their groups"),
            ("w8", "per-channel-full-range-int8"),
            ("w8_affine", "per-channel-affine-int8"),
            ("w8_tensor", "per-tensor-full-range-int8"),
            ("f8", "its codes are floats"),
        ],
    ),
    ("fp8", &[("a", "its codes are floats"), ("mx", "its codes are floats")]),
    ("mxfp4", &[("packed", "its codes are floats")]),
    ("nvfp4", &[("a", "its codes are floats")]),
    ("mlx", &[("a", "per-block-minimum-int4:scale=f16"), ("b", "per-channel-minimum-int4")]),
    (
        "bitsandbytes",
        &[
            ("nf4", "its codes are positions in a table"),
            ("nested", "its codes are positions in a table"),
            ("fp4", "its codes are positions in a table"),
            ("int8", "its codes are multiplied by two numbers"),
        ],
    ),
];

#[test]
fn the_values_are_those_of_the_programs_that_quantized() {
    for folder in FOLDERS {
        let read = open(golden(folder).join("model.safetensors"));
        let expected = open(golden(folder).join("expected.safetensors"));
        assert_eq!(read.prequantized().unwrap().refused(), None, "{folder}");
        for (index, entry) in expected.entries().iter().enumerate() {
            let name = entry.id.as_str();
            let position = read.position(name).unwrap_or_else(|| panic!("{folder}: {name}"));
            let found = &read.entries()[position];
            assert_eq!(found.shape, entry.shape, "{folder}: {name}");
            let (values, wanted) = (read.read(position).unwrap(), expected.read(index).unwrap());
            let differs = values
                .values()
                .iter()
                .zip(&*wanted.values())
                .position(|(a, b)| a.to_bits() != b.to_bits());
            assert_eq!(differs, None, "{folder}: {name}");
        }
        assert!(read.position("norm.weight").is_some());
        assert_eq!(read.states().unwrap(), [], "{folder}: every part belongs to a tensor");
    }
}

#[test]
fn codes_are_kept_where_a_scheme_has_them_and_otherwise_the_reason_is_said() {
    for (folder, tensors) in STORED {
        let read = open(golden(folder).join("model.safetensors"));
        let described = read.prequantized().unwrap().tensors();
        for (layer, expected) in tensors {
            let id = format!("{layer}.weight");
            let id = if read.position(&id).is_some() { id } else { (*layer).into() };
            let entry = &read.entries()[read.position(&id).unwrap()];
            let reason = described.iter().find(|it| it.id == *id).unwrap().as_floats;
            let tensor = read.read(read.position(&id).unwrap()).unwrap();
            match entry.stored {
                Stored::Quantized(scheme) => {
                    assert_eq!(scheme.to_string(), *expected, "{folder}: {id}");
                    assert_eq!((tensor.quantized().unwrap().scheme(), reason), (scheme, None));
                }
                _ => {
                    assert_eq!(reason.unwrap().to_string(), *expected, "{folder}: {id}");
                    assert!(tensor.quantized().is_none());
                }
            }
        }
    }
}

#[test]
fn biases_of_another_type_than_their_scales_make_floats() {
    let tensors: &[(&str, &str, &[usize])] = &[
        ("fc.weight", "U32", &[4, 8]),
        ("fc.scales", "F16", &[4, 1]),
        ("fc.biases", "F32", &[4, 1]),
    ];
    let (_directory, path) =
        directory(tensors, r#"{"quantization": {"group_size": 64, "bits": 4}}"#);
    let described = open(path);
    let reason = described.prequantized().unwrap().tensors()[0].as_floats.unwrap();
    assert_eq!(reason.to_string(), "its biases have another type than its scales");
}

#[test]
fn codes_over_minimums_stay_through_a_record() {
    let directory = tempfile::tempdir().unwrap();
    let from = open(golden("mlx").join("model.safetensors"));
    let record = directory.path().join("mlx.quant");
    quant_formats::convert(&from, &record, Options::default()).unwrap();
    let back = open(&record);
    for name in ["a.weight", "b.weight"] {
        let [before, after] = [&from, &back].map(|it| it.read(it.position(name).unwrap()).unwrap());
        assert!(before.quantized().is_some_and(|it| !it.minimums().is_empty()));
        assert_eq!(before, after, "{name}");
    }
}

/// A name with codes, scales and zero points.
type Parts = (String, Vec<i8>, Vec<f32>, Vec<i8>);

/// Those of all quantized tensors, in the order of their names.
fn parts(from: &Checkpoint) -> Vec<Parts> {
    let mut parts = Vec::new();
    for (index, entry) in from.entries().iter().enumerate() {
        if let Some(tensor) = from.read(index).unwrap().quantized() {
            let (scales, zero_points) = (tensor.scales().into(), tensor.zero_points().into());
            parts.push((entry.id.to_string(), tensor.codes(), scales, zero_points));
        }
    }
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    parts
}

#[test]
fn codes_stay_through_a_record_and_a_model_directory() {
    let directory = tempfile::tempdir().unwrap();
    // In a directory, a row has whole groups.
    for (folder, omitted, tensors) in [
        ("gptq-v2", "short.*", 1),
        ("gptq-sym", "short.*", 3),
        ("awq", "*.bias", 2),
        ("compressed-tensors", "dense5.*", 8),
    ] {
        let from = open(golden(folder).join("model.safetensors"));
        let from = Rename::new().omit(omitted).checkpoint(from).unwrap();
        let expected = parts(&from);
        assert_eq!(expected.len(), tensors, "{folder}");
        let record = directory.path().join(format!("{folder}.quant"));
        quant_formats::convert(&from, &record, Options::default()).unwrap();
        assert_eq!(parts(&open(&record)), expected, "{folder}");
        let to = directory.path().join(folder);
        let inputs = quant_formats::Inputs::Float;
        quant_formats::convert_folder(&open(&record), inputs, &to, Options::default()).unwrap();
        let back = open(&to);
        assert_eq!(parts(&back), expected, "{folder}");
        let description = back.prequantized().unwrap().to_string();
        assert!(description.starts_with("compressed-tensors int"), "{description}");
    }
}

#[test]
fn the_description_counts_tensors_by_method_and_bits() {
    for (folder, said) in [
        ("gptq", "GPTQ int2 (1 tensor), GPTQ int3 (1 tensor), GPTQ int4 (3 tensors)"),
        ("awq", "AWQ int4 (2 tensors), such as a.weight"),
        ("fp8", "FP8 (5 tensors), MXFP8 (1 tensor), such as a.weight"),
        ("mxfp4", "MXFP4 (2 tensors), such as experts.gate_up_proj"),
    ] {
        let read = open(golden(folder).join("model.safetensors"));
        let described = read.prequantized().unwrap().to_string();
        assert!(described.starts_with(said), "{described}");
    }
}

#[test]
fn a_tensor_has_the_bytes_of_all_its_parts() {
    let read = open(golden("awq").join("model.safetensors"));
    let entry = &read.entries()[read.position("a.weight").unwrap()];
    assert_eq!(entry.bytes, 64 * 16 / 2 + 2 * 16 / 2 + 2 * 2 * 16);
    let parts = &read.prequantized().unwrap().tensors()[0].components;
    assert_eq!(*parts, ["a.qweight", "a.scales", "a.qzeros"]);
}

#[test]
fn nothing_is_quantized_a_second_time() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("a.quant");
    let recipe = Recipe::new().scheme("per-channel-symmetric-int8".parse().unwrap());
    for folder in FOLDERS {
        let from = open(golden(folder).join("model.safetensors"));
        for error in [
            quant_formats::quantize(&from, &recipe, &to, Options::default()).map(drop),
            quant_formats::plan(&from, &recipe, Options::default()).map(drop),
            quant_formats::report::tensors(&from, &recipe, Options::default()).map(drop),
        ] {
            let error = error.unwrap_err();
            assert!(matches!(error, CheckpointError::PreQuantized { .. }), "{folder}: {error:?}");
            assert!(error.to_string().starts_with("is quantized already: "), "{error}");
        }
        assert!(!to.exists());
    }
}

#[test]
fn dequantized_values_can_be_quantized() {
    let directory = tempfile::tempdir().unwrap();
    let (float, to) = (directory.path().join("f.safetensors"), directory.path().join("a.quant"));
    let from = open(golden("gptq").join("model.safetensors"));
    quant_formats::dequantize(&from, &float, Options::default()).unwrap();
    let float = open(&float);
    assert!(float.prequantized().is_none());
    let (values, expected) = (
        float.read(float.position("act_order.weight").unwrap()),
        open(golden("gptq").join("expected.safetensors")),
    );
    let expected = expected.read(expected.position("act_order.weight").unwrap()).unwrap();
    assert_eq!(values.unwrap().values(), expected.values());
    let recipe = Recipe::new().scheme("per-channel-symmetric-int8".parse().unwrap());
    quant_formats::quantize(&float, &recipe, &to, Options::default()).unwrap();
}

#[test]
fn names_apply_to_the_float_tensors() {
    let from = open(golden("gptq").join("model.safetensors"));
    let renamed = Rename::new().omit("b*.weight").replace("^act_order", "x").unwrap();
    let renamed = renamed.checkpoint(from).unwrap();
    let described = renamed.prequantized().unwrap();
    let ids: Vec<_> = described.tensors().iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["x.weight", "no_index.weight"]);
    let all = Rename::new().omit("*.weight");
    let from = open(golden("gptq").join("model.safetensors"));
    assert!(all.checkpoint(from).unwrap().prequantized().is_none());
}

#[test]
fn what_cannot_be_read_is_said_and_copied_as_it_is() {
    for (method, tensors) in [
        (Method::Exl2, &[("fc.q_weight", "I32", &[4, 4][..]), ("fc.q_scale", "I32", &[4, 1])][..]),
        (Method::Exl3, &[("fc.trellis", "I16", &[1, 1, 48]), ("fc.suh", "F16", &[16])]),
        (Method::Hqq, &[("fc.W_q", "U8", &[4, 4]), ("fc.scale", "F16", &[4, 1])]),
        (
            Method::Quanto,
            &[("fc.weight._data", "I8", &[4, 4]), ("fc.weight._scale", "F16", &[4, 1])],
        ),
        (Method::Aqlm, &[("fc.codes", "I16", &[4, 4, 1]), ("fc.codebooks", "F16", &[1, 4, 1, 8])]),
        (Method::QuipSharp, &[("fc.Qidxs", "I64", &[4, 4]), ("fc.SU", "F16", &[4])]),
        (Method::Unknown, &[("fc.weight", "U8", &[4, 4]), ("fc.scales", "F16", &[4, 1])]),
        (Method::Unknown, &[("fc.qweight", "U8", &[4, 4]), ("fc.scale", "F16", &[4, 1])]),
        (Method::Unknown, &[("x", "I32", &[4, 4]), ("x_scale", "F16", &[4, 1])]),
    ] {
        let (directory, path) = directory(tensors, "");
        let from = open(&path);
        let described = from.prequantized().unwrap();
        let tensor = &described.tensors()[0];
        assert_eq!((tensor.encoding.method, described.tensors().len()), (method, 1), "{tensor:?}");
        assert_eq!(tensor.refusal, Some(Refusal::Unsupported));
        assert_eq!(tensor.components.len(), tensors.len(), "{tensor:?}");

        let to = directory.path().join("b.quant");
        let error = quant_formats::dequantize(&from, &to, Options::default()).unwrap_err();
        assert!(matches!(error, CheckpointError::Refused { .. }), "{error:?}");
        let recipe = Recipe::new().scheme("per-channel-symmetric-int8".parse().unwrap());
        let error = quant_formats::quantize(&from, &recipe, &to, Options::default()).unwrap_err();
        assert!(matches!(error, CheckpointError::PreQuantized { .. }), "{error:?}");
        quant_formats::convert(&from, &to, Options::default()).unwrap();
        let again = open(&to);
        assert_eq!(again.prequantized().unwrap().tensors()[0].encoding.method, method);
        let back = directory.path().join("c.safetensors");
        quant_formats::convert(&again, &back, Options::default()).unwrap();
        assert_eq!(open(back).states().unwrap(), from.states().unwrap());
    }
}

#[test]
fn a_method_that_only_the_configuration_names_is_quantized_already() {
    let tensors: &[(&str, &str, &[usize])] = &[("fc.indices", "I32", &[4, 4]), ("b", "F16", &[4])];
    let config = r#"{"quantization_config":{"quant_method":"vptq"}}"#;
    assert_eq!(
        refusal(tensors, config),
        "fc.indices: an unknown method: this method cannot be read"
    );
    let (_directory, path) = directory(tensors, config);
    let said = open(path).prequantized().unwrap().to_string();
    assert!(said.ends_with("its configuration calls the method `vptq`"), "{said}");
    let (_directory, path) = directory(tensors, "");
    assert!(open(path).prequantized().is_none());
}

#[test]
fn integers_and_floats_without_scales_are_not_quantized() {
    let (_directory, path) = directory(
        &[
            ("position_ids", "I64", &[1, 4]),
            ("mask", "U8", &[4, 4]),
            ("cast.weight", "F8_E4M3", &[4, 4]),
            ("fc.weight", "F16", &[4, 4]),
            ("fc.weight_scale", "F32", &[4]),
            ("scales", "F32", &[4]),
        ],
        r#"{"hidden_size": 4}"#,
    );
    assert!(open(path).prequantized().is_none());
}

#[test]
fn parts_that_do_not_fit_are_named() {
    const GPTQ: [(&str, &str, &[usize]); 3] = [
        ("fc.qweight", "I32", &[8, 8]),
        ("fc.qzeros", "I32", &[2, 1]),
        ("fc.scales", "F16", &[2, 8]),
    ];
    let with = |position: usize, part: (&'static str, &'static str, &'static [usize])| {
        let mut parts = GPTQ.to_vec();
        parts.splice(position..(position + 1).min(3), [part]);
        parts
    };
    for (tensors, said) in [
        (GPTQ[..1].iter().chain(&GPTQ[2..]).copied().collect(), "`fc.qzeros` is missing"),
        (with(2, ("fc.scales", "F16", &[2, 7])), "`fc.scales` is F16 [2, 7]"),
        (with(1, ("fc.qzeros", "F16", &[2, 1])), "`fc.qzeros` is F16 [2, 1]"),
        (with(1, ("fc.qzeros", "I32", &[2, 3])), "`fc.qzeros` is I32 [2, 3]"),
        (with(0, ("fc.qweight", "I32", &[64])), "`fc.qweight` is I32 [64]"),
        (with(3, ("fc.g_idx", "I32", &[63])), "`fc.g_idx` is I32 [63]"),
        (with(3, ("fc.weight", "F16", &[8, 64])), "there is another tensor `fc.weight`"),
    ] {
        let found = refusal(&tensors, "");
        assert!(found.starts_with("fc.weight: ") && found.contains(said), "{found}");
    }
    let config = r#"{"quantization_config":{"quant_method":"gptq","checkpoint_format":"marlin"}}"#;
    assert!(refusal(&GPTQ, config).ends_with("GPTQ: the variant `marlin` cannot be read"));
    let mut ragged = GPTQ.to_vec();
    (ragged[1].2, ragged[2].2) = (&[3, 1], &[3, 8]);
    assert!(refusal(&ragged, "").contains("the length of groups cannot be told from shapes"));

    let packed: &[(&str, &str, &[usize])] =
        &[("fc.weight_packed", "I32", &[4, 8]), ("fc.weight_scale", "F16", &[4, 1])];
    assert!(refusal(packed, "").contains("`fc.weight_shape` is missing"));
    // A shape of zeros.
    let packed = [packed, &[("fc.weight_shape", "I64", &[2])]].concat();
    assert!(refusal(&packed, "").contains("`fc.weight_packed` is I32 [4, 8], which does not fit"));
    let fp8: &[(&str, &str, &[usize])] =
        &[("fc.weight", "F8_E4M3", &[4, 8]), ("fc.weight_scale_inv", "F32", &[3, 1])];
    assert!(refusal(fp8, "").contains("`fc.weight_scale_inv` is F32 [3, 1]"));
    let mlx: &[(&str, &str, &[usize])] = &[
        ("fc.weight", "U32", &[4, 8]),
        ("fc.scales", "F16", &[4, 1]),
        ("fc.biases", "F16", &[4, 1]),
    ];
    assert!(refusal(mlx, "").contains("the bits and length of groups cannot be told"));
}

#[test]
fn tensors_of_bitsandbytes_that_do_not_fit_are_named() {
    let state = "fc.weight.quant_state.bitsandbytes__nf4";
    let tensors = |codes: &'static str, state_dtype: &'static str| {
        [
            ("fc.weight", codes, &[8, 1][..]),
            ("fc.weight.absmax", "F32", &[1]),
            ("fc.weight.quant_map", "F32", &[16]),
            (state, state_dtype, &[40]),
        ]
    };
    // No text.
    let said = refusal(&tensors("U8", "U8"), "");
    assert!(
        said.starts_with("fc.weight: bitsandbytes: ") && said.contains("`fc.weight.quant_state")
    );
    assert!(refusal(&tensors("U8", "I64"), "").contains("is I64 [40]"));
    // Packed as if it were a float, which is not half of a tensor, but all of it.
    assert!(refusal(&tensors("BF16", "U8"), "").contains("`fc.weight.quant_state"));
    let unknown = &tensors("U8", "U8")[..3];
    assert!(refusal(unknown, "").contains("the shape cannot be told from shapes"));

    let int8: &[(&str, &str, &[usize])] = &[("fc.weight", "I8", &[4, 4]), ("fc.SCB", "F32", &[3])];
    assert!(refusal(int8, "").contains("`fc.SCB` is F32 [3]"));
    let format = [int8, &[("fc.weight_format", "U8", &[2])]].concat();
    assert!(refusal(&format, "").contains("`fc.weight_format` is U8 [2]"));
}

#[test]
fn parts_of_bitsandbytes_are_compared_with_what_their_description_says() {
    let bytes = fs::read(golden("bitsandbytes").join("model.safetensors")).unwrap();
    for (old, new, said) in [
        (r#""blocksize": 64, "dtype": "bfloat16", "shape": [6, 64]"#, "x", "quant_state"),
        (r#""shape": [6, 64]"#, r#""shape": [6, 65]"#, "`nf4.weight` is U8 [192, 1]"),
        (
            r#""blocksize": 64, "dtype": "bfloat16", "shape": [6"#,
            r#""blocksize": 32, "dtype": "bfloat16", "shape": [6"#,
            "`nf4.weight.absmax` is F32 [6]",
        ),
        (
            r#""blocksize": 64, "dtype": "bfloat16", "shape": [6"#,
            r#""blocksize": 00, "dtype": "bfloat16", "shape": [6"#,
            "quant_state",
        ),
        (r#""nested_offset": 0"#, r#""nested_OFFSET": 0"#, "`nested.weight.quant_state"),
        (r#""nested_blocksize": 256"#, r#""nested_blocksize": 100"#, "nested_absmax` is F32 [2]"),
    ] {
        let at = bytes.windows(old.len()).position(|it| it == old.as_bytes()).expect(old);
        let mut bytes = bytes.clone();
        let new = format!("{new:0$}", old.len());
        bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
        let checkpoint = import_bytes(&bytes, b"").unwrap();
        let (_, refusal) = checkpoint.prequantized().unwrap().refused().expect(old);
        assert!(refusal.to_string().contains(said), "{old}: {refusal}");
    }
}

/// Where the data of a tensor begins in a file.
fn data_of(file: &[u8], name: &str) -> usize {
    let header_len = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + header_len]).unwrap();
    8 + header_len + header[name]["data_offsets"][0].as_u64().unwrap() as usize
}

#[test]
fn int8_codes_of_bitsandbytes_in_another_order_are_refused() {
    let mut bytes = fs::read(golden("bitsandbytes").join("model.safetensors")).unwrap();
    let at = data_of(&bytes, "int8.weight_format");
    bytes[at] = 2;
    let checkpoint = import_bytes(&bytes, b"").unwrap();
    let (tensor, refusal) = checkpoint.prequantized().unwrap().refused().unwrap();
    assert_eq!(tensor.id, "int8.weight");
    assert_eq!(refusal.to_string(), "the variant `weight_format 2` cannot be read");
}

#[test]
fn a_group_that_does_not_exist_is_an_error_of_the_values() {
    let path = golden("gptq").join("model.safetensors");
    let mut bytes = fs::read(path).unwrap();
    let at = data_of(&bytes, "act_order.g_idx");
    bytes[at + 8] = 3;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    fs::write(&path, bytes).unwrap();
    let from = open(&path);
    let error = from.read(from.position("act_order.weight").unwrap()).unwrap_err();
    let RecordError::Recorder { source, .. } = error else { panic!("{error:?}") };
    let error = source.downcast::<PreQuantizedError>().unwrap();
    assert_eq!(error.to_string(), "act_order.g_idx: column 2 is in none of the 3 groups");
}

#[test]
fn the_zero_point_of_a_file_without_a_configuration_is_that_of_version_1() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    fs::copy(golden("gptq").join("model.safetensors"), &path).unwrap();
    let (read, expected) = (open(&path), open(golden("gptq").join("expected.safetensors")));
    let values = |from: &Checkpoint| from.read(from.position("b4.weight").unwrap()).unwrap();
    assert_eq!(values(&read).values(), values(&expected).values());
}

#[test]
fn mutated_files_and_configurations_never_panic() {
    let mut random = Random(5);
    for folder in FOLDERS {
        let bytes = fs::read(golden(folder).join("model.safetensors")).unwrap();
        let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let config = fs::read(golden(folder).join("config.json")).unwrap_or_default();
        for _ in 0..MUTATIONS {
            let (mut bytes, mut config) = (bytes.clone(), config.clone());
            mutate(&mut bytes, 8 + header_len, b"0123456789[],\"IU8F_", &mut random);
            if random.below(4) == 0 {
                let end = config.len();
                mutate(&mut config, end, b"0123456789[],\"{}-", &mut random);
            }
            let Ok(checkpoint) = import_bytes(&bytes, &config) else { continue };
            for (index, entry) in checkpoint.entries().iter().enumerate() {
                if let Ok(tensor) = checkpoint.read(index) {
                    assert_eq!(tensor.shape(), entry.shape);
                    assert_eq!(tensor.quantized().map(QuantizedTensor::scheme), entry.scheme());
                }
            }
            // Sorts its columns, before the model turns out to have other parameters.
            if checkpoint.position("act_order.weight").is_some() {
                let weight = ArrayD::<f32>::zeros(IxDyn(&[1, 1]));
                let layer = Linear::new(weight, None).unwrap();
                let _ = checkpoint.load_into(BTreeMap::from([("act_order".to_owned(), layer)]));
            }
        }
    }
}
