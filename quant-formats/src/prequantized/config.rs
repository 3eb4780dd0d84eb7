//! What the configuration beside a checkpoint says about its quantization.

use std::io::Read;
use std::path::Path;

use quant::__private::OpenFile;
use serde_json::Value;

/// The most bytes of a configuration that are read.
const LIMIT: u64 = 16 << 20;

/// What a configuration says; nothing, if there is none.
#[derive(Debug, Default)]
pub(super) struct Config {
    /// The method as it is called there, such as `gptq`.
    pub(super) method: Option<String>,
    /// The variant of the layout: `gptq_v2`, `gemm`, `marlin`.
    pub(super) variant: Option<String>,
    /// The bits of codes that may occur.
    pub(super) bits: Vec<usize>,
    /// The lengths of groups that may occur.
    pub(super) group_lens: Vec<usize>,
    /// Rows and columns of a block that shares a scale.
    pub(super) block: Option<[usize; 2]>,
}

impl Config {
    /// Reads `config.json` and `quantize_config.json` in a directory. A file that is not there, or
    /// not JSON, says nothing: the tensors can be read without it.
    pub(super) fn in_directory(directory: &Path) -> Self {
        let model = read(&directory.join("config.json"));
        let mut config = Self::of_model(&model.unwrap_or_default());
        if let Some(text) = read(&directory.join("quantize_config.json"))
            && let Ok(json) = serde_json::from_slice(&text)
        {
            config.add(&json);
            config.method.get_or_insert_with(|| "gptq".into());
        }
        config
    }

    /// What the text of a `config.json` says.
    pub(super) fn of_model(text: &[u8]) -> Self {
        let mut config = Self::default();
        let model: Value = serde_json::from_slice(text).unwrap_or_default();
        for key in ["quantization_config", "quantization", "compression_config"] {
            config.add(&model[key]);
        }
        config.add(&model["text_config"]["quantization_config"]);
        config
    }

    fn add(&mut self, json: &Value) {
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        self.method = self.method.take().or_else(|| text("quant_method"));
        // AWQ calls it a version, which compressed-tensors has as well: there it is a number.
        let version = || text("version").filter(|it| it.starts_with(char::is_alphabetic));
        self.variant = self.variant.take().or_else(|| text("checkpoint_format")).or_else(version);
        self.block = self.block.or_else(|| pair(&json["weight_block_size"]));
        self.add_weights(json, "bits");
        let groups = json["config_groups"].as_object().into_iter().flatten();
        for weights in groups.map(|(_, group)| &group["weights"]) {
            self.add_weights(weights, "num_bits");
            self.block = self.block.or_else(|| pair(&weights["block_structure"]));
        }
    }

    fn add_weights(&mut self, json: &Value, bits: &str) {
        let number = |key: &str| usize::try_from(json[key].as_u64()?).ok().filter(|&it| it > 0);
        self.bits.extend(number(bits));
        self.group_lens.extend(number("group_size"));
    }

    /// The length of the groups of a row of `columns`, if there are `groups`.
    pub(super) fn group_len(&self, columns: usize, groups: usize) -> Option<usize> {
        let fits = |len: usize| columns.div_ceil(len) == groups;
        let known = self.group_lens.iter().copied().find(|&len| fits(len));
        known.or_else(|| exact(columns, groups))
    }

    /// Rows and columns of the blocks of a matrix whose scales have this shape.
    pub(super) fn block(&self, matrix: [usize; 2], scales: [usize; 2]) -> Option<[usize; 2]> {
        let fits = |block: &[usize; 2]| {
            (0..2).all(|axis| matrix[axis].div_ceil(block[axis]) == scales[axis])
        };
        // A ragged edge hides the length of a block; all checkpoints have had 128 so far.
        if let Some(block) = [self.block, Some([128, 128])].into_iter().flatten().find(fits) {
            return Some(block);
        }
        Some([exact(matrix[0], scales[0])?, self.group_len(matrix[1], scales[1])?])
    }
}

/// The quotient, if it is whole and not 0.
fn exact(whole: usize, parts: usize) -> Option<usize> {
    (parts > 0 && whole > 0 && whole.is_multiple_of(parts)).then(|| whole / parts)
}

fn pair(json: &Value) -> Option<[usize; 2]> {
    let extent = |at: usize| usize::try_from(json[at].as_u64()?).ok().filter(|&it| it > 0);
    Some([extent(0)?, extent(1)?])
}

/// The content of a regular file, up to the limit.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    OpenFile::open(path).ok()?.at(0).take(LIMIT).read_to_end(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Config {
        let mut config = Config::default();
        config.add(&serde_json::from_str(json).unwrap());
        config
    }

    #[test]
    fn reads_the_keys_of_each_method() {
        let gptq = config(
            r#"{"quant_method":"gptq","bits":4,"group_size":-1,"checkpoint_format":"gptq_v2"}"#,
        );
        assert_eq!(
            (gptq.method.as_deref(), gptq.variant.as_deref()),
            (Some("gptq"), Some("gptq_v2"))
        );
        assert_eq!((&*gptq.bits, &*gptq.group_lens), (&[4][..], &[][..]));
        let packed = config(
            r#"{"quant_method":"compressed-tensors","version":"0.9","config_groups":{"a":{"weights":
            {"num_bits":3,"group_size":64}},"b":{"weights":{"num_bits":8,"block_structure":[128,64]}}}}"#,
        );
        assert_eq!((&*packed.bits, &*packed.group_lens), (&[3, 8][..], &[64][..]));
        assert_eq!((packed.block, packed.variant), (Some([128, 64]), None));
        let hostile =
            config(r#"{"bits":-4,"group_size":0,"weight_block_size":[0,128],"config_groups":[1]}"#);
        assert_eq!((hostile.bits.len(), hostile.group_lens.len(), hostile.block), (0, 0, None));
    }

    #[test]
    fn ragged_blocks_are_those_of_the_configuration_or_128_by_128() {
        let none = Config::default();
        assert_eq!(none.block([300, 200], [3, 2]), Some([128, 128]));
        assert_eq!(none.block([307, 200], [7, 2]), None);
        assert_eq!(none.block([300, 200], [6, 4]), Some([50, 50]));
        assert_eq!(none.block([5, 8], [5, 1]), Some([1, 8]));
        let known = Config { block: Some([64, 128]), ..Config::default() };
        assert_eq!(known.block([300, 200], [5, 2]), Some([64, 128]));
        assert_eq!(none.group_len(100, 3), None);
        let known = Config { group_lens: vec![40], ..Config::default() };
        assert_eq!(known.group_len(100, 3), Some(40));
    }
}
