//! safetensors files for the tests.

/// The bits of an element.
fn bits(dtype: &str) -> usize {
    match dtype {
        "F64" | "I64" | "U64" => 64,
        "F32" | "I32" | "U32" => 32,
        "F16" | "BF16" | "I16" | "U16" => 16,
        _ => 8,
    }
}

/// A file of tensors with these names, types and shapes, whose bytes are all 0.
///
/// # Panics
/// If the header cannot be written, which does not happen.
pub fn file(tensors: &[(&str, &str, &[usize])]) -> Vec<u8> {
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for &(name, dtype, shape) in tensors {
        let end = at + shape.iter().product::<usize>() * bits(dtype) / 8;
        let slot = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]});
        header.insert(name.into(), slot);
        at = end;
    }
    let mut json = serde_json::to_vec(&header).expect("a map of JSON");
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json);
    bytes.resize(bytes.len() + at, 0);
    bytes
}
