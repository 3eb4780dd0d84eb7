//! Records for the tests: a small one of everything, and hostile ones as literal bytes.

use std::error::Error;

use quant::record::{Record, RecordVersion, Recorder};
use quant::record::{RecordFormatError, RecordState};
use quant::tensor::{FloatType, QuantizedTensor, SharedTensor};
use quant::{BincodeRecorder, Module, RecordError, Tensor};

/// The message of an error, followed by those of its sources.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// What is wrong with the bytes of a record.
///
/// # Panics
/// If the error is about something else.
pub fn reason(error: RecordError) -> RecordFormatError {
    match error {
        RecordError::Format { source, .. } => source,
        other => panic!("not about the bytes of a record: {other:?}"),
    }
}

/// The content of `fixtures/record-v1.quant`: every kind of tensor, metadata and states. It must
/// never change.
pub fn of_everything() -> Record {
    let mut record = Record::new();
    record.insert_metadata("author", "quant");
    record.insert_metadata("größe", "ein paar Werte — π≈3.14");
    record.insert("float.matrix", float(&[2, 3], &[0.0, -0.0, 1.5, -2.25, f32::MAX, 1e-45]));
    record.insert("float.scalar", float(&[], &[42.0]));
    record.insert("float.empty", float(&[0, 4], &[]));
    record.insert(
        "int8.tensor",
        codes(&[2, 2], "per-tensor-symmetric-int8", &[0x7F, 0x81, 0x00, 0x01], &[0.5], &[]),
    );
    record.insert(
        "int8.tensor_affine",
        codes(&[3], "per-tensor-affine-int8", &[0x80, 0x00, 0x7F], &[0.25], &[-7]),
    );
    record.insert(
        "int4.channel_affine",
        // Rows of 3 codes: 1 2 -8 and 7 -1 0.
        codes(
            &[2, 3],
            "per-channel-affine-int4",
            &[0x21, 0x08, 0xF7, 0x00],
            &[0.125, 2.0],
            &[3, -8],
        ),
    );
    record.insert(
        "int2.channel_last",
        // Rows of 5 codes: 1 -1 0 1 -1 and 0 0 1 0 1.
        codes(
            &[2, 5],
            "per-channel-symmetric-int2:axis=-1",
            &[0b01_00_11_01, 0b11, 0b00_01_00_00, 0b01],
            &[1.0, 0.5, 0.25, 0.75, 3.0],
            &[],
        ),
    );
    record.insert(
        "int3.block_affine",
        // Rows of 3 codes in blocks of 2: -4 3 0 and 1 2 -1.
        codes(
            &[2, 3],
            "per-block-affine-int3:len=2",
            &[0x3C, 0x00, 0x21, 0x0F],
            &[0.5, 1.5, 0.1, 7.0],
            &[1, -4, 0, 3],
        ),
    );
    record.insert(
        "int4.block_f16",
        // Rows of 3 codes in blocks of 2: 7 -7 1 and 0 3 -3.
        codes(
            &[2, 3],
            "per-block-symmetric-int4:len=2:scale=f16",
            &[0x97, 0x01, 0x30, 0x0D],
            &[0.5, 1.0009766, 65504.0, 6.1035156e-5],
            &[],
        ),
    );
    record.insert("int6.scalar", codes(&[], "per-tensor-symmetric-int6", &[0xE1], &[0.5], &[]));
    record.insert_state(state("float", "test/bytes", &[1, 2, 3]));
    record.insert_state(state("empty", "test/nothing", &[]));
    record
}

/// The content of `fixtures/record-v2.quant`: what version 2 adds. It must never change.
pub fn of_version_2() -> Record {
    let half = |shape: &[usize], ty, bits: &[u16]| -> Tensor {
        SharedTensor::from_half_bits(shape, ty, bits.to_vec()).expect("as many as the shape").into()
    };
    let minimum = |shape: &[usize], scheme: &str, packed: &[u8], scales: &[f32], low: &[f32]| {
        let scheme = scheme.parse().expect("the name of a scheme");
        let (packed, scales, low) = (packed.to_vec(), scales.to_vec(), low.to_vec());
        let made = QuantizedTensor::with_minimums(shape, scheme, packed, scales, low);
        Tensor::from(made.expect("parts that fit each other"))
    };
    let mut record = Record::new();
    // 1, -2, the least subnormal number, infinity.
    record.insert("f16", half(&[2, 2], FloatType::F16, &[0x3C00, 0xC000, 0x0001, 0x7C00]));
    record.insert("bf16", half(&[3], FloatType::Bf16, &[0x3F80, 0xC000, 0x0001]));
    record.insert("f16.empty", half(&[0, 3], FloatType::F16, &[]));
    // Rows of 3 codes: -4 3 0 and 1 2 -1.
    record.insert(
        "int3.dense",
        codes(&[2, 3], "per-tensor-affine-int3", &[0x3C, 0x00, 0x21, 0x0F], &[0.5], &[1]),
    );
    record.insert(
        "int5.dense",
        codes(&[5], "per-tensor-symmetric-int5", &[0x0F, 0xF1, 0x00, 0x01, 0xFF], &[0.5], &[]),
    );
    record.insert("int6.dense", codes(&[], "per-tensor-symmetric-int6", &[0xE1], &[0.5], &[]));
    record.insert(
        "int7.dense",
        codes(&[1, 2], "per-channel-affine-int7", &[0x3F, 0xC0], &[2.0], &[-64]),
    );
    // Codes -8 7 1, scales of both signs and -0.
    record.insert(
        "int4.full_range",
        codes(
            &[1, 3],
            "per-block-full-range-int4:len=1:scale=f16",
            &[0x78, 0x01],
            &[-0.5, -0.0, 5.960_464_5e-8],
            &[],
        ),
    );
    // Codes -8 7 0: the least, the greatest, and 8 above the least.
    record.insert(
        "int4.minimum",
        minimum(
            &[1, 3],
            "per-block-minimum-int4:len=2:scale=bf16",
            &[0x78, 0x00],
            &[0.5, -2.0],
            &[-1.0, 3.0],
        ),
    );
    record.insert(
        "int8.minimum_last",
        minimum(
            &[1, 2],
            "per-channel-minimum-int8:axis=-1",
            &[0x80, 0x7F],
            &[1.0, 0.1],
            &[7.0, 0.3],
        ),
    );
    record
}

/// Loads from bytes; a reader that does not know its length must come to the same result.
///
/// # Errors
/// Those of the recorder.
///
/// # Panics
/// If the results differ.
pub fn load_both(recorder: &impl Recorder, bytes: &[u8]) -> Result<Record, RecordError> {
    let known = recorder.load(&mut &*bytes, Some(bytes.len() as u64));
    let unknown = recorder.load(&mut &*bytes, None);
    assert_eq!(known.is_ok(), unknown.is_ok(), "{known:?}; {unknown:?}");
    known
}

/// The bytes of a record in the native format.
///
/// # Panics
/// If it cannot be saved.
pub fn native(record: &Record) -> Vec<u8> {
    record.save_bytes(&BincodeRecorder::default()).expect("the record can be saved")
}

/// Saves records of version 1.
pub fn version_1() -> BincodeRecorder {
    BincodeRecorder::default().version(RecordVersion::V1)
}

/// The bytes of [`of_everything`] in version 1.
///
/// # Panics
/// If it cannot be saved.
pub fn bytes_of_everything() -> Vec<u8> {
    of_everything().save_bytes(&version_1()).expect("the record can be saved")
}

fn float(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_values(shape, values.to_vec()).expect("as many values as the shape has")
}

fn codes(shape: &[usize], scheme: &str, codes: &[u8], scales: &[f32], zeros: &[i8]) -> Tensor {
    let scheme = scheme.parse().expect("the name of a scheme");
    QuantizedTensor::from_parts(shape, scheme, codes.into(), scales.into(), zeros.into())
        .expect("parts that fit each other")
        .into()
}

fn state(path: &str, kind: &str, data: &[u8]) -> RecordState {
    RecordState { id: path.into(), kind: kind.into(), data: data.into() }
}

/// Corrects the header checksum of a record that was modified, as an attacker would.
pub fn reseal(record: &mut [u8]) {
    let Some(header_len) = record.get(16..24) else { return };
    let header_len = u64::from_le_bytes(header_len.try_into().expect("8 bytes"));
    let Some(header) =
        usize::try_from(header_len).ok().and_then(|len| record.get(32..32usize.checked_add(len)?))
    else {
        return;
    };
    let mut crc = crc32fast::Hasher::new();
    crc.update(&record[..12]);
    crc.update(&record[16..32]);
    crc.update(header);
    let crc = crc.finalize();
    record[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// A section in a header: its offset from the end of the header's padding, length and checksum.
pub type Section = (u64, u64, u32);

/// A tensor in a header, field by field.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The name, which may not be UTF-8.
    pub name: Vec<u8>,
    /// The extents of the axes.
    pub shape: Vec<u64>,
    /// Kind, bits, mapping, granularity, scale type.
    pub numbers: [u8; 5],
    /// The channel axis.
    pub axis: i32,
    /// The block length.
    pub block: u32,
    /// Values, scales, zero points.
    pub sections: [Section; 3],
}

impl Entry {
    /// Two floats, both 0, in the first section.
    pub fn floats(name: &str) -> Self {
        let crc = crc32fast::hash(&[0; 8]);
        Self {
            name: name.into(),
            shape: vec![2],
            sections: [(0, 8, crc), (64, 0, 0), (64, 0, 0)],
            ..Self::default()
        }
    }

    /// Two int8 codes, both 0, with the scale 1.
    pub fn int8(name: &str) -> Self {
        let (codes, scales) = (crc32fast::hash(&[0; 2]), crc32fast::hash(&1f32.to_le_bytes()));
        Self {
            numbers: [1, 8, 0, 0, 0],
            sections: [(0, 2, codes), (64, 4, scales), (128, 0, 0)],
            ..Self::floats(name)
        }
    }
}

/// A record that is encoded as it stands, valid or not.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Keys and values of the metadata.
    pub metadata: Vec<(Vec<u8>, Vec<u8>)>,
    /// The tensors.
    pub tensors: Vec<Entry>,
    /// Names, kinds and sections of states.
    pub states: Vec<(Vec<u8>, Vec<u8>, Section)>,
    /// Bytes after the content of the header.
    pub surplus: Vec<u8>,
    /// The bytes after the header and its padding.
    pub payload: Vec<u8>,
    /// The file length in the prelude; `None` for the true one.
    pub file_len: Option<u64>,
}

impl Draft {
    /// A record of one tensor, [`Entry::floats`].
    pub fn floats() -> Self {
        Self { tensors: vec![Entry::floats("w")], payload: vec![0; 64], ..Self::default() }
    }

    /// A record of one tensor, [`Entry::int8`].
    pub fn int8() -> Self {
        let mut payload = vec![0; 128];
        payload[64..68].copy_from_slice(&1f32.to_le_bytes());
        Self { tensors: vec![Entry::int8("w")], payload, ..Self::default() }
    }

    /// The first tensor.
    pub fn tensor(&mut self) -> &mut Entry {
        &mut self.tensors[0]
    }

    /// The bytes of the record, with the right header checksum.
    pub fn bytes(&self) -> Vec<u8> {
        let header_len = self.header(0).len();
        let start = (32 + header_len).next_multiple_of(64);
        let file_len = self.file_len.unwrap_or((start + self.payload.len()) as u64);
        let mut bytes = b"\x89QNT\r\n\x1a\n\x01\0\0\0????".to_vec();
        bytes.extend((header_len as u64).to_le_bytes());
        bytes.extend(file_len.to_le_bytes());
        bytes.extend(self.header(start as u64));
        bytes.resize(start, 0);
        bytes.extend(&self.payload);
        reseal(&mut bytes);
        bytes
    }

    fn header(&self, start: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        count(&mut bytes, self.metadata.len());
        for (key, value) in &self.metadata {
            string(&mut bytes, key);
            string(&mut bytes, value);
        }
        count(&mut bytes, self.tensors.len());
        for tensor in &self.tensors {
            entry(&mut bytes, tensor, start);
        }
        count(&mut bytes, self.states.len());
        for (name, kind, at) in &self.states {
            string(&mut bytes, name);
            string(&mut bytes, kind);
            section(&mut bytes, *at, start);
        }
        bytes.extend(&self.surplus);
        bytes
    }
}

fn count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend((count as u64).to_le_bytes());
}

fn string(bytes: &mut Vec<u8>, string: &[u8]) {
    count(bytes, string.len());
    bytes.extend(string);
}

fn section(bytes: &mut Vec<u8>, (offset, len, crc): Section, start: u64) {
    bytes.extend(start.wrapping_add(offset).to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes.extend(crc.to_le_bytes());
}

fn entry(bytes: &mut Vec<u8>, entry: &Entry, start: u64) {
    string(bytes, &entry.name);
    count(bytes, entry.shape.len());
    entry.shape.iter().for_each(|extent| bytes.extend(extent.to_le_bytes()));
    bytes.extend(entry.numbers);
    bytes.extend(entry.axis.to_le_bytes());
    bytes.extend(entry.block.to_le_bytes());
    entry.sections.iter().for_each(|&at| section(bytes, at, start));
}
