//! `config.json` of a quantized model.

use std::collections::BTreeMap;

use quant::ParamId;
use serde_json::{Map, Value, json};

use super::compressed::{Compressed, Inputs, format};

/// The key that says how a model is quantized.
const KEY: &str = "quantization_config";

/// The name of the output layer of language models.
const OUTPUT: &str = "lm_head";

/// What `config.json` says about the quantized matrices, and about those that are float.
pub(super) fn quantization<'a>(
    quantized: impl Iterator<Item = (&'a ParamId, Compressed)>,
    float: impl Iterator<Item = &'a ParamId>,
    inputs: Inputs,
) -> Value {
    let mut schemes: BTreeMap<String, (Value, Vec<&str>)> = BTreeMap::new();
    for (id, compressed) in quantized {
        let config = compressed.config();
        let of_scheme = schemes.entry(config.to_string()).or_insert((config, Vec::new()));
        of_scheme.1.push(module(id));
    }
    let is_one = schemes.len() == 1;
    let is_output_quantized = schemes.values().any(|(_, targets)| targets.contains(&OUTPUT));
    let mut groups = Map::new();
    for (position, (mut config, targets)) in schemes.into_values().enumerate() {
        // One scheme is for all linear layers but those that are ignored.
        config["targets"] = if is_one { json!(["Linear"]) } else { json!(targets) };
        groups.insert(format!("group_{position}"), config);
    }
    let mut ignore: Vec<&str> = float.map(module).collect();
    // An output layer that is tied to the embeddings has no tensor, and engines look for one.
    if is_one && !ignore.contains(&OUTPUT) && !is_output_quantized {
        ignore.push(OUTPUT);
    }
    json!({
        "quant_method": "compressed-tensors",
        "format": format(inputs),
        "quantization_status": "compressed",
        "global_compression_ratio": null,
        "kv_cache_scheme": null,
        "config_groups": groups,
        "ignore": ignore,
    })
}

/// The layer of a weight.
fn module(id: &ParamId) -> &str {
    id.as_str().strip_suffix(".weight").unwrap_or(id.as_str())
}

/// Whether a configuration says that the output layer has the weights of the embeddings.
pub(super) fn is_tied(text: &str) -> bool {
    let config = serde_json::from_str::<Value>(text).unwrap_or_default();
    config["tie_word_embeddings"] == true
}

/// The text of `config.json` with another value for quantization, or without one.
///
/// The rest of the text is kept as it is where it has no such value yet.
pub(super) fn with_quantization(
    text: &str,
    quantization: Option<&Value>,
) -> Result<String, serde_json::Error> {
    let mut config: Map<String, Value> = serde_json::from_str(text)?;
    let Some(quantization) = quantization else {
        return if config.remove(KEY).is_none() { Ok(text.into()) } else { pretty(&config) };
    };
    let (had_one, is_empty) = (config.contains_key(KEY), config.is_empty());
    config.insert(KEY.into(), quantization.clone());
    match text.rfind('}') {
        Some(end) if !had_one && !is_empty => {
            let value = serde_json::to_string_pretty(quantization)?.replace('\n', "\n  ");
            let (before, after) = (text[..end].trim_end(), &text[end..]);
            Ok(format!("{before},\n  \"{KEY}\": {value}\n{after}"))
        }
        _ => pretty(&config),
    }
}

fn pretty(config: &Map<String, Value>) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(config)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_values_of_a_configuration_keep_their_text() {
        let text = "{\n  \"rms_norm_eps\": 1e-06,\n  \"a\": {}\n}\n";
        let with = with_quantization(text, Some(&json!({"x": [1]}))).unwrap();
        assert!(with.starts_with(
            "{\n  \"rms_norm_eps\": 1e-06,\n  \"a\": {},\n  \"quantization_config\": {"
        ));
        assert!(with.ends_with("\n  }\n}\n"), "{with}");
        let parsed: Value = serde_json::from_str(&with).unwrap();
        assert_eq!(parsed[KEY], json!({"x": [1]}));
        let other = with_quantization(&with, Some(&json!(2))).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&other).unwrap()[KEY], 2);
        assert!(!with_quantization(&with, None).unwrap().contains(KEY));
        assert_eq!(with_quantization(text, None).unwrap(), text);
        assert_eq!(
            with_quantization("{}", Some(&json!(2))).unwrap(),
            "{\n  \"quantization_config\": 2\n}\n"
        );
        assert!(with_quantization("[]", None).is_err());
    }
}
