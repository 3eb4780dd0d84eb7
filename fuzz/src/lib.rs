//! What the targets share: checksums made right, so that mutations reach the checks behind them.

use std::path::PathBuf;
use std::sync::OnceLock;

use quant::record::RecordState;
use quant::record::Record;
use quant::tensor::{FloatType, QuantizedTensor, SharedTensor};
use quant::Tensor;

/// Gives a record the right checksum of prelude and header.
pub fn reseal_record(record: &mut [u8]) {
    let Some(len) = record.get(16..24) else { return };
    let len = u64::from_le_bytes(len.try_into().expect("8 bytes"));
    let end = usize::try_from(len).ok().and_then(|len| 32usize.checked_add(len));
    let Some(end) = end.filter(|&end| end <= record.len()) else { return };
    let crc = checksum(&[&record[..12], &record[16..end]]);
    record[12..16].copy_from_slice(&crc);
}

/// Gives an index of shards its right checksum.
pub fn reseal_index(index: &mut [u8]) {
    if index.len() >= 16 {
        let crc = checksum(&[&index[..12], &index[16..]]);
        index[12..16].copy_from_slice(&crc);
    }
}

fn checksum(runs: &[&[u8]]) -> [u8; 4] {
    let mut crc = crc32fast::Hasher::new();
    runs.iter().for_each(|run| crc.update(run));
    crc.finalize().to_le_bytes()
}

/// A directory of this process, in memory where the system has one there.
pub fn directory() -> PathBuf {
    static DIRECTORY: OnceLock<tempfile::TempDir> = OnceLock::new();
    let make = || tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    DIRECTORY.get_or_init(|| make().expect("a temporary directory")).path().into()
}

/// A small record of every kind of tensor.
pub fn sample() -> Record {
    let float = |shape: &[usize], values: &[f32]| {
        Tensor::from_values(shape, values.to_vec()).expect("as many values as the shape has")
    };
    let mut record = Record::new();
    record.insert_metadata("author", "quant");
    record.insert("float", float(&[2, 3], &[0.0, -0.0, 1.5, -2.25, f32::MAX, 1e-45]));
    record.insert("scalar", float(&[], &[42.0]));
    record.insert("empty", float(&[0, 4], &[]));
    for ty in [FloatType::F16, FloatType::Bf16] {
        let half = SharedTensor::from_half_bits(&[3], ty, vec![0x3C01, 0x8000, 1]);
        record.insert(ty.to_string(), half.expect("3 elements").into());
    }
    for (scheme, codes, scales, zeros) in [
        ("per-tensor-symmetric-int8", &[0x7F, 0x81, 0, 1, 2, 3][..], &[0.5f32][..], &[][..]),
        ("per-channel-affine-int4", &[0x21, 0x08, 0xF7, 0x00], &[0.125, 2.0], &[3, -8]),
        (
            "per-block-affine-int3:len=2",
            &[0x3C, 0, 0x21, 0x0F],
            &[0.5, 1.5, 0.1, 7.0],
            &[1, -4, 0, 3],
        ),
        (
            "per-block-symmetric-int4:len=2:scale=f16",
            &[0x97, 1, 0x30, 0xD],
            &[0.5, 1.0, 65504.0, 2.0],
            &[],
        ),
        ("per-channel-symmetric-int5", &[1, 0x0F, 0xF1, 0, 2, 0xFF], &[0.5, 1.0], &[]),
        ("per-block-full-range-int8:len=4:scale=bf16", &[0x80, 0, 1, 2, 3, 4], &[-0.5, 1.0], &[]),
    ] {
        let parsed = scheme.parse().expect("the name of a scheme");
        let tensor =
            QuantizedTensor::from_parts(&[2, 3], parsed, codes.into(), scales.into(), zeros.into());
        record.insert(scheme, tensor.expect("parts that fit").into());
    }
    let scheme = "per-channel-minimum-int4".parse().expect("the name of a scheme");
    let minimums = vec![-1.0, 0.0];
    let made =
        QuantizedTensor::with_minimums(&[2, 3], scheme, vec![0x21, 0x0F, 0xF7, 0], vec![0.5, 2.0], minimums);
    record.insert("minimum", made.expect("parts that fit").into());
    let data = vec![1, 2, 3];
    record.insert_state(RecordState { id: "s".into(), kind: "test/1".into(), data });
    record
}
