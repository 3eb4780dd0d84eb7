//! Input that is not a record, has another version, or is damaged.
//!
//! Hostile headers are encoded field by field and have the right checksum, so that they reach the
//! check that they are about.

use std::io::{self, Read, Write};

use quant::record::{ForeignFormat, ManifestError, RecordFormatError, SectionKind};
use quant::record::{Record, Recorder};
use quant::tensor::TensorError;
use quant::{BincodeRecorder, Module, Param, RecordError, Tensor};
use tests::mutate::mutate;
use tests::random::Random;
use tests::record::{
    Draft, Entry, bytes_of_everything, chain, of_everything, reason, reseal, version_1,
};

/// Loads from bytes, with known and unknown length; both must have the same result.
fn load(bytes: &[u8]) -> Result<Record, RecordError> {
    let recorder = BincodeRecorder::default();
    let known = recorder.load(&mut &*bytes, Some(bytes.len() as u64));
    let unknown = recorder.load(&mut &*bytes, None);
    match (&known, &unknown) {
        (Ok(known), Ok(unknown)) => assert!(same_bits(known, unknown)),
        (Err(_), Err(_)) => {}
        _ => panic!("known length: {known:?}; unknown length: {unknown:?}"),
    }
    known
}

/// Compares bits, since NaN is not equal to itself.
fn same_bits(a: &Record, b: &Record) -> bool {
    let bytes = |record: &Record| record.save_bytes(&BincodeRecorder::default()).unwrap();
    bytes(a) == bytes(b)
}

macro_rules! assert_error {
    ($draft:expr, $pattern:pat $(if $guard:expr)?, $message:expr) => {{
        let error = reason(load(&$draft).expect_err("an invalid record"));
        assert!(matches!(error, $pattern $(if $guard)?), "{error:?}");
        let (text, part) = (chain(&error), $message);
        assert!(text.contains(part), "{text:?} should say {part:?}");
    }};
}

/// A draft with one defect.
fn broken(mut draft: Draft, defect: impl FnOnce(&mut Draft)) -> Vec<u8> {
    load(&draft.bytes()).expect("the draft without the defect is valid");
    defect(&mut draft);
    draft.bytes()
}

#[test]
fn the_drafts_are_records() {
    assert_eq!(load(&Draft::default().bytes()).unwrap(), Record::new());
    let record = load(&Draft::floats().bytes()).unwrap();
    assert_eq!(record.get("w"), Some(&Tensor::from_values(&[2], vec![0.0; 2]).unwrap()));
    assert!(load(&Draft::int8().bytes()).unwrap().get("w").unwrap().is_quantized());
}

#[test]
fn rejects_a_wrong_magic() {
    let mut bytes = bytes_of_everything();
    bytes[4] = b'\n'; // as a transfer in text mode would
    assert_error!(bytes, RecordFormatError::BadMagic { ref found, .. } if found[4] == b'\n', r"\x89QNT\n\n");
    assert_error!(
        [b'x'; 100],
        RecordFormatError::BadMagic { looks_like: None, .. },
        "unknown format"
    );
}

#[test]
fn names_the_format_of_other_files() {
    let directory = tempfile::tempdir().unwrap();
    for (content, format, advice) in [
        (&b"\x08\0\0\0\0\0\0\0{\"a\":{}}"[..], ForeignFormat::Safetensors, "`quant convert`"),
        (b"{\"format\": \"quant-json/1\"}", ForeignFormat::Json, "`quant-formats`"),
        (b"GGUF\x03\0\0\0\0\0\0\0", ForeignFormat::Gguf, "`quant convert`"),
        (b"PK\x03\x04\x14\0\0\0", ForeignFormat::Zip, "save the tensors as safetensors"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            ForeignFormat::LfsPointer,
            "`git lfs pull`",
        ),
    ] {
        for padding in [0, 100] {
            let path = directory.path().join("model");
            std::fs::write(&path, [content, &vec![b' '; padding]].concat()).unwrap();
            let error = BincodeRecorder::default().load_file(&path).unwrap_err();
            let text = chain(&error);
            assert!(text.starts_with(&format!("{}: invalid record: this is", path.display())));
            assert!(text.contains(advice), "{text}");
            let RecordFormatError::BadMagic { looks_like, .. } = reason(error) else {
                panic!("{text}")
            };
            assert_eq!(looks_like, Some(format), "{text}");
        }
    }
    let error = BincodeRecorder::default().load_file(directory.path()).unwrap_err();
    assert!(chain(&error).ends_with(": I/O error: is a directory"), "{error}");
}

#[test]
fn rejects_unsupported_versions() {
    for version in [0u32, 3, u32::MAX] {
        let mut bytes = bytes_of_everything();
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        reseal(&mut bytes);
        assert_error!(
            bytes,
            RecordFormatError::UnsupportedVersion { found, newest: 2 } if found == version,
            "newest supported version is 2"
        );
    }
}

#[test]
fn rejects_a_truncation_at_every_byte() {
    let bytes = bytes_of_everything();
    for len in 0..bytes.len() {
        let error = load(&bytes[..len]).expect_err("truncated");
        let error = reason(error);
        let RecordFormatError::Truncated { at, expected } = error else {
            panic!("{len}: {error:?}")
        };
        assert!(at == len as u64 && expected > at && expected <= bytes.len() as u64);
    }
    assert_error!(
        bytes[..99],
        RecordFormatError::Truncated { at: 99, .. },
        "truncated: found 99 bytes, expected at least"
    );
}

#[test]
fn rejects_trailing_bytes() {
    let mut bytes = bytes_of_everything();
    bytes.push(0);
    assert_error!(bytes, RecordFormatError::TrailingBytes { .. }, "trailing bytes");
    bytes.extend([0; 63]);
    assert_error!(bytes, RecordFormatError::TrailingBytes { expected } if expected == bytes.len() as u64 - 64,
        "trailing bytes");
}

#[test]
fn rejects_a_flip_of_every_bit() {
    let mut bytes = bytes_of_everything();
    for position in 0..bytes.len() {
        for bit in 0..8 {
            bytes[position] ^= 1 << bit;
            assert!(load(&bytes).is_err(), "bit {bit} of byte {position}");
            bytes[position] ^= 1 << bit;
        }
    }
    assert!(load(&bytes).is_ok());
}

#[test]
fn rejects_ten_thousand_flips_of_a_larger_record() {
    let mut random = Random(1);
    let values: Vec<f32> = (0..10_000).map(|_| random.unit()).collect();
    let mut record = of_everything();
    record.insert("large", Tensor::from_values(&[100, 100], values).unwrap());
    let mut bytes = record.save_bytes(&BincodeRecorder::default()).unwrap();
    for _ in 0..10_000 {
        let (position, bit) = (random.below(bytes.len()), random.below(8));
        bytes[position] ^= 1 << bit;
        assert!(load(&bytes).is_err(), "bit {bit} of byte {position}");
        bytes[position] ^= 1 << bit;
    }
}

#[test]
fn survives_a_hundred_thousand_random_and_mutated_inputs() {
    let sample = bytes_of_everything();
    let mut random = Random(2);
    let mut accepted = 0;
    for round in 0..100_000 {
        let mut bytes = match round % 4 {
            0 => (0..random.below(200)).map(|_| random.bits() as u8).collect(),
            1 => {
                let mut bytes = sample[..32].to_vec();
                bytes.extend((0..random.below(300)).map(|_| random.bits() as u8));
                bytes
            }
            _ => sample.clone(),
        };
        for _ in 0..random.below(4) {
            // Mostly in prelude and header, where numbers mean something.
            let end = if random.below(4) == 0 { usize::MAX } else { 1300 };
            mutate(&mut bytes, end, &[0, 1, 2, 0x7F, 0x80, 0xFF], &mut random);
        }
        reseal(&mut bytes);
        accepted += usize::from(load(&bytes).is_ok());
    }
    // Some rounds mutate nothing, or names and metadata only.
    assert!((5_000..60_000).contains(&accepted), "{accepted}");
}

#[test]
fn rejects_headers_longer_than_the_limit() {
    let mut bytes = bytes_of_everything();
    bytes[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_error!(
        bytes,
        RecordFormatError::HeaderTooLong { len: u64::MAX, .. },
        "limit is 67108864"
    );

    let huge = BincodeRecorder::default().metadata("k", "v".repeat(64 << 20));
    let error = Param::new(1.0f32).save_bytes(&huge).unwrap_err();
    assert!(
        matches!(
            error,
            RecordError::Format { source: RecordFormatError::HeaderTooLong { .. }, .. }
        ),
        "{error:?}"
    );
}

#[test]
fn rejects_a_damaged_header() {
    let mut bytes = bytes_of_everything();
    bytes[40] ^= 1;
    assert_error!(bytes, RecordFormatError::HeaderChecksum { .. }, "the header is damaged");
}

#[test]
fn rejects_headers_that_cannot_be_decoded() {
    for defect in [
        |draft: &mut Draft| draft.tensor().name = vec![0xFF],
        |draft: &mut Draft| draft.metadata = vec![(b"k".into(), vec![0xC3])],
        |draft: &mut Draft| draft.states = vec![(vec![0xED, 0xA0, 0x80], b"".into(), (64, 0, 0))],
    ] {
        let bytes = broken(Draft::floats(), defect);
        assert_error!(
            bytes,
            RecordFormatError::HeaderEncoding { .. },
            "cannot decode the header: "
        );
        let error = load(&bytes).unwrap_err();
        assert!(std::error::Error::source(&error).is_some());
    }
}

#[test]
fn rejects_counts_and_lengths_beyond_the_header() {
    let bytes = Draft::floats().bytes();
    // The counts of metadata and tensors, and the lengths of the name and the shape.
    for position in [32, 40, 48, 57] {
        for count in [2, 1000, 1 << 32, 1 << 61, u64::MAX] {
            let mut bytes = bytes.clone();
            bytes[position..position + 8].copy_from_slice(&u64::to_le_bytes(count));
            reseal(&mut bytes);
            let error = load(&bytes).unwrap_err();
            assert!(
                !matches!(
                    error,
                    RecordError::Format { source: RecordFormatError::HeaderChecksum { .. }, .. }
                ),
                "{count} at {position}: {error:?}"
            );
        }
    }
}

#[test]
fn rejects_bytes_after_the_content_of_the_header() {
    let bytes = broken(Draft::floats(), |draft| draft.surplus = vec![0]);
    assert_error!(bytes, RecordFormatError::HeaderLen { declared, used } if declared == used + 1, "ends after");
}

#[test]
fn rejects_padding_that_is_not_zero() {
    let bytes = broken(Draft::floats(), |draft| draft.payload[63] = 1);
    let last = bytes.len() as u64 - 1;
    assert_error!(bytes, RecordFormatError::Padding { at } if at == last, "is not zero");

    let mut bytes = Draft::default().bytes();
    bytes[63] = 0x80;
    assert_error!(bytes, RecordFormatError::Padding { at: 63 }, "the padding byte at 63");
}

#[test]
fn rejects_damaged_sections_by_name() {
    let bytes = broken(Draft::int8(), |draft| draft.payload[0] = 1);
    assert_error!(
        bytes,
        RecordFormatError::SectionChecksum { kind: SectionKind::Values, .. },
        "w: values damaged"
    );
    let bytes = broken(Draft::int8(), |draft| draft.payload[64] = 1);
    assert_error!(
        bytes,
        RecordFormatError::SectionChecksum { kind: SectionKind::Scales, .. },
        "w: scales damaged"
    );
    let bytes = broken(Draft::default(), |draft| {
        draft.states = vec![(b"s".into(), b"kind".into(), (0, 1, 7))];
        draft.payload = vec![0; 64];
    });
    assert_error!(
        bytes,
        RecordFormatError::SectionChecksum { kind: SectionKind::State, .. },
        "s: state damaged"
    );
}

#[test]
fn rejects_duplicate_names() {
    let bytes = broken(Draft::floats(), |draft| {
        let mut second = draft.tensors[0].clone();
        second.sections.iter_mut().for_each(|section| section.0 += 64);
        draft.tensors.push(second);
        draft.payload = vec![0; 128];
    });
    assert_error!(bytes, RecordFormatError::DuplicateName { ref id } if *id == "w", "w: duplicate name");

    let bytes = broken(Draft::default(), |draft| {
        draft.states = vec![(b"s".into(), b"a".into(), (0, 0, 0)); 2];
    });
    assert_error!(bytes, RecordFormatError::DuplicateName { ref id } if *id == "s", "s: duplicate name");
}

#[test]
fn rejects_metadata_that_is_not_in_order() {
    for keys in [[b"b", b"a"], [b"a", b"a"]] {
        let bytes = broken(Draft::default(), |draft| {
            draft.metadata = keys.map(|key| (key.into(), b"".into())).into();
        });
        assert_error!(bytes, RecordFormatError::MetadataOrder { ref key } if key == "a", "metadata `a`");
    }
}

#[test]
fn rejects_undefined_values() {
    for (numbers, axis, block, field) in [
        ([2, 8, 0, 0, 0], 0, 0, "kind"),
        ([0, 8, 0, 0, 0], 0, 0, "bits"),
        ([1, 9, 0, 0, 0], 0, 0, "bits"),
        ([1, 8, 2, 0, 0], 0, 0, "mapping"),
        ([1, 8, 0, 3, 0], 0, 0, "granularity"),
        ([1, 8, 0, 0, 1], 0, 0, "scale type"),
        ([1, 8, 0, 0, 0], 1, 0, "axis"),
        ([1, 8, 0, 2, 0], 0, 0, "block length"),
    ] {
        let bytes = broken(Draft::int8(), |draft| {
            let tensor = draft.tensor();
            (tensor.numbers, tensor.axis, tensor.block) = (numbers, axis, block);
        });
        assert_error!(bytes, RecordFormatError::Encoding { .. }, &format!("w: the {field}"));
    }
}

#[test]
fn rejects_shapes_with_too_many_elements() {
    for shape in [vec![u64::MAX, 2], vec![0, 1 << 32, 1 << 32], vec![1 << 62, 1], vec![2; 70]] {
        for draft in [Draft::floats(), Draft::int8()] {
            let bytes = broken(draft, |draft| draft.tensor().shape.clone_from(&shape));
            let error = load(&bytes).unwrap_err();
            assert!(
                matches!(
                    error,
                    RecordError::Format { source: RecordFormatError::Shape { .. }, .. }
                        | RecordError::Format { source: RecordFormatError::SectionLen { .. }, .. }
                ),
                "{error:?}"
            );
        }
    }
    let bytes = broken(Draft::floats(), |draft| draft.tensor().shape = vec![u64::MAX, 2]);
    assert_error!(bytes, RecordFormatError::Shape { .. }, "w: shape [18446744073709551615, 2]");
}

#[test]
fn rejects_section_lengths_that_do_not_match_the_shape() {
    let bytes = broken(Draft::floats(), |draft| draft.tensor().shape = vec![3]);
    assert_error!(
        bytes,
        RecordFormatError::SectionLen { kind: SectionKind::Values, expected: 12, found: 8, .. },
        "w: values have 8 bytes, expected 12"
    );
    let bytes = broken(Draft::int8(), |draft| draft.tensor().numbers = [1, 8, 0, 1, 0]);
    assert_error!(
        bytes,
        RecordFormatError::SectionLen { kind: SectionKind::Scales, expected: 8, found: 4, .. },
        "w: scales"
    );
    let bytes = broken(Draft::int8(), |draft| draft.tensor().numbers = [1, 8, 1, 0, 0]);
    assert_error!(
        bytes,
        RecordFormatError::SectionLen { kind: SectionKind::ZeroPoints, .. },
        "w: zero points"
    );
}

#[test]
fn rejects_sections_that_are_not_end_to_end() {
    let bytes = broken(Draft::int8(), |draft| draft.tensor().sections[1].0 = 60);
    assert_error!(
        bytes,
        RecordFormatError::Unaligned { kind: SectionKind::Scales, .. },
        "w: scales unaligned"
    );

    let bytes = broken(Draft::int8(), |draft| draft.tensor().sections[1].0 = 0);
    assert_error!(
        bytes,
        RecordFormatError::Overlap { kind: SectionKind::Scales, .. },
        "w: scales start at byte"
    );

    let bytes = broken(Draft::int8(), |draft| {
        draft.payload.splice(64..64, [0; 64]);
        draft.tensor().sections[1].0 = 128;
        draft.tensor().sections[2].0 = 192;
    });
    assert_error!(bytes, RecordFormatError::Gap { kind: SectionKind::Scales, .. }, "a gap");

    // Before the sections: in the header.
    let bytes =
        broken(Draft::floats(), |draft| draft.tensor().sections[0].0 = 0u64.wrapping_sub(64));
    assert_error!(bytes, RecordFormatError::Overlap { .. }, "within what ends at");
}

#[test]
fn rejects_checksums_of_empty_sections() {
    for part in 1..3 {
        let bytes = broken(Draft::floats(), |draft| draft.tensor().sections[part].2 = 1);
        assert_error!(
            bytes,
            RecordFormatError::SectionChecksum { stored: 1, computed: 0, .. },
            "w: "
        );
    }
}

#[test]
fn rejects_sections_past_the_end() {
    for len in [65, 1 << 40, u64::MAX - 100, u64::MAX] {
        let bytes = broken(Draft::floats(), |draft| draft.tensor().sections[0].1 = len);
        assert_error!(
            bytes,
            RecordFormatError::PastEnd { kind: SectionKind::Values, available: 64, .. },
            "but only 64 are left"
        );
    }
}

#[test]
fn rejects_a_file_length_beyond_the_sections() {
    let bytes = broken(Draft::floats(), |draft| draft.payload.extend([0; 64]));
    assert_error!(bytes, RecordFormatError::FileLen { declared, needed } if declared == needed + 64, "end at");
    let bytes = broken(Draft::floats(), |draft| draft.payload.extend([0; 1]));
    assert_error!(bytes, RecordFormatError::FileLen { .. }, "sections end at");
}

#[test]
fn rejects_a_claimed_terabyte_before_allocating_it() {
    let elements = 1u64 << 38;
    let bytes = broken(Draft::floats(), |draft| {
        draft.tensor().shape = vec![elements];
        draft.tensor().sections =
            [(0, 4 * elements, 0), (4 * elements, 0, 0), (4 * elements, 0, 0)];
        draft.file_len = Some(4 * elements + 192);
    });
    assert_error!(bytes, RecordFormatError::Truncated { .. }, "truncated");
    // If the length of the input is wrong too, the allocation fails.
    let huge = broken(Draft::floats(), |draft| {
        let elements = 1u64 << 60;
        draft.tensor().shape = vec![elements];
        draft.tensor().sections =
            [(0, 4 * elements, 0), (4 * elements, 0, 0), (4 * elements, 0, 0)];
        draft.file_len = Some(4 * elements + 192);
    });
    let error =
        BincodeRecorder::default().load(&mut huge.as_slice(), Some((1 << 62) + 192)).unwrap_err();
    let RecordError::Io { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::OutOfMemory);
}

#[test]
fn rejects_sections_that_do_not_form_a_tensor() {
    fn seal(draft: &mut Draft) {
        let payload = draft.payload.clone();
        for (offset, len, crc) in &mut draft.tensor().sections {
            *crc = crc32fast::hash(&payload[*offset as usize..(*offset + *len) as usize]);
        }
    }
    let bytes = broken(Draft::int8(), |draft| {
        draft.payload[1] = 0x80;
        seal(draft);
    });
    assert_error!(
        bytes,
        RecordFormatError::Tensor { source: TensorError::Code { byte: 1, .. }, .. },
        "w: not a valid tensor: "
    );
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40] {
        let bytes = broken(Draft::int8(), |draft| {
            draft.payload[64..68].copy_from_slice(&scale.to_le_bytes());
            seal(draft);
        });
        assert_error!(
            bytes,
            RecordFormatError::Tensor { source: TensorError::Scale { group: 0, .. }, .. },
            "w: not a valid tensor: "
        );
    }
    let bytes = broken(Draft::int8(), |draft| {
        draft.tensor().numbers = [1, 4, 0, 0, 0];
        draft.tensor().shape = vec![2, 1];
        draft.payload[0] = 0x10;
        seal(draft);
    });
    assert_error!(
        bytes,
        RecordFormatError::Tensor { source: TensorError::Padding { byte: 0 }, .. },
        "w: not a valid tensor: "
    );
    let bytes = broken(Draft::int8(), |draft| {
        draft.tensor().numbers = [1, 8, 0, 1, 0];
        draft.tensor().axis = 1;
    });
    assert_error!(
        bytes,
        RecordFormatError::Tensor { source: TensorError::Layout(_), .. },
        "no axis 1"
    );
}

#[test]
fn empty_tensors_with_rows_of_any_length_have_no_values() {
    const ROW: usize = 1 << 62;
    let mut draft = Draft::int8();
    let scale = 1f32.to_le_bytes();
    draft.tensor().numbers = [1, 2, 0, 0, 0];
    draft.tensor().shape = vec![0, ROW as u64];
    draft.tensor().sections = [(0, 0, 0), (0, 4, crc32fast::hash(&scale)), (64, 0, 0)];
    draft.payload = [scale.as_slice(), &[0; 60]].concat();
    let bytes = draft.bytes();
    assert_eq!(bytes.len(), 256);
    let record = load(&bytes).unwrap();
    let tensor = record.get("w").unwrap();
    assert_eq!((tensor.shape(), tensor.element_count()), (&[0, ROW][..], 0));
    assert!(tensor.values().is_empty());
    let quantized = tensor.quantized().unwrap();
    assert!(quantized.codes().is_empty() && quantized.dequantize().is_empty());
    let float = record.clone().dequantize();
    assert!(float.get("w").unwrap().values().is_empty());
    assert_eq!(record.save_bytes(&BincodeRecorder::default()).unwrap(), bytes);

    for scheme in ["per-tensor-symmetric-int2", "per-tensor-affine-int8"] {
        let quantizer = quant::Quantizer {
            calibration: quant::MinMaxCalibration {},
            scheme: scheme.parse().unwrap(),
        };
        let again = float.clone().quantize_weights(quantizer).unwrap();
        assert!(again.get("w").unwrap().values().is_empty(), "{scheme}");
    }
}

#[test]
fn rejects_empty_shapes_that_overflow() {
    let bytes = broken(Draft::floats(), |draft| {
        draft.tensor().shape = vec![1 << 40, 1 << 40, 0];
        draft.tensor().sections = [(0, 0, 0); 3];
        draft.payload.clear();
    });
    assert_error!(bytes, RecordFormatError::Shape { .. }, "has too many elements");
}

/// Reads up to `limit` bytes, one at a time, with an interruption before each, and then fails.
struct Stubborn<'a> {
    bytes: &'a [u8],
    limit: usize,
    interrupted: bool,
}

impl Read for Stubborn<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.limit == 0 {
            return Err(io::Error::other("the line is down"));
        }
        self.limit -= 1;
        self.bytes.read(&mut buffer[..1])
    }
}

/// Accepts up to `limit` bytes, and then fails.
struct Full {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(7).min(self.limit - self.bytes.len());
        if len == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn reports_a_reader_that_fails_at_any_byte() {
    let bytes = bytes_of_everything();
    let load = |limit| {
        let mut reader = Stubborn { bytes: &bytes, limit, interrupted: false };
        BincodeRecorder::default().load(&mut reader, None)
    };
    for limit in 0..=bytes.len() {
        let error = load(limit).unwrap_err();
        assert!(matches!(error, RecordError::Io { path: None, .. }), "{limit}: {error:?}");
        assert_eq!(chain(&error), "I/O error: the line is down");
    }
    assert!(same_bits(&load(bytes.len() + 1).unwrap(), &of_everything()));
}

#[test]
fn reports_a_writer_that_fails_at_any_byte() {
    let (bytes, record) = (bytes_of_everything(), of_everything());
    for limit in 0..bytes.len() {
        let mut writer = Full { bytes: Vec::new(), limit };
        let error = version_1().save(&record, &mut writer).unwrap_err();
        assert!(matches!(error, RecordError::Io { .. }), "{limit}: {error:?}");
        assert_eq!(writer.bytes, bytes[..limit]);
    }
    let mut writer = Full { bytes: Vec::new(), limit: bytes.len() };
    record.save_to(&mut writer, &version_1()).unwrap();
    assert_eq!(writer.bytes, bytes);
}

/// A reader that claims to have read more than it was asked for.
struct Liar;

impl Read for Liar {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        Ok(usize::MAX)
    }
}

#[test]
fn survives_a_reader_that_claims_too_much() {
    let result = BincodeRecorder::default().load(&mut Liar, None);
    assert!(matches!(
        result,
        Err(RecordError::Format { source: RecordFormatError::BadMagic { .. }, .. })
    ));
}

/// A storage that returns other values on each call.
struct Restless(std::cell::Cell<f32>);

impl quant::FloatTensor for Restless {
    type Device = ();

    fn device(&self) {}

    fn shape(&self) -> std::borrow::Cow<'_, [usize]> {
        vec![1].into()
    }

    fn values(&self) -> std::borrow::Cow<'_, [f32]> {
        self.0.set(self.0.get() + 1.0);
        vec![self.0.get()].into()
    }

    fn from_values(_: &[usize], values: Vec<f32>, (): &()) -> Result<Self, TensorError> {
        Ok(Self(values[0].into()))
    }
}

#[test]
fn rejects_a_model_that_changes_while_it_is_saved() {
    let model = (Param::new(1.0f32), Param::new(Restless(0.0.into())));
    let error = model.save_bytes(&BincodeRecorder::default()).unwrap_err();
    assert!(
        matches!(&error, RecordError::Manifest(ManifestError::Changed { id }) if *id == "1"),
        "{error:?}"
    );
    assert!(chain(&error).ends_with(": 1: changed while it was being saved"), "{error}");
}

#[test]
fn rejects_two_parameters_with_the_same_name() {
    let inner =
        |name: &str| std::collections::BTreeMap::from([(name.to_owned(), Param::new(1.0f32))]);
    let model = std::collections::BTreeMap::from([
        ("a".to_owned(), inner("b.c")),
        ("a.b".to_owned(), inner("c")),
    ]);
    let error = model.save_bytes(&BincodeRecorder::default()).unwrap_err();
    assert!(
        matches!(&error, RecordError::Format { source: RecordFormatError::DuplicateName { id }, .. } if *id == "a.b.c"),
        "{error:?}"
    );
    assert!(matches!(
        Record::from_module(&model),
        Err(RecordError::Format { source: RecordFormatError::DuplicateName { .. }, .. })
    ));
    let record = Record::from_iter([("a.b.c", Tensor::from_values(&[], vec![1.0]).unwrap())]);
    assert!(matches!(
        model.load_record(record),
        Err(RecordError::Format { source: RecordFormatError::DuplicateName { .. }, .. })
    ));
}

/// A format of another crate.
struct Foreign;

impl Recorder for Foreign {
    fn save(&self, _: &dyn quant::module::Walk, _: &mut dyn Write) -> Result<(), RecordError> {
        Err(RecordError::recorder("cannot write"))
    }

    fn load(&self, _: &mut dyn Read, _: Option<u64>) -> Result<Record, RecordError> {
        Ok(Record::from_iter([("", Tensor::from_values(&[], vec![3.0]).unwrap())]))
    }
}

#[test]
fn other_recorders_have_errors_of_their_own() {
    let error = Param::new(1.0f32).save_bytes(&Foreign).unwrap_err();
    assert_eq!(chain(&error), "recorder error: cannot write");
    let error = error.in_file("model.foreign".as_ref());
    assert_eq!(chain(&error), "model.foreign: recorder error: cannot write");
    assert_eq!(*Param::new(1.0f32).load_bytes(&[], &Foreign).unwrap().value(), 3.0);
}

#[test]
fn errors_can_be_sent_between_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<RecordError>();
}

#[test]
fn entries_name_their_fields() {
    // A name with a dot, and an entry after it.
    let mut draft = Draft::floats();
    draft.tensors.push(Entry { name: b"x.y".into(), ..Entry::floats("w") });
    draft.tensors[1].sections.iter_mut().for_each(|section| section.0 += 64);
    draft.payload = vec![0; 128];
    let record = load(&draft.bytes()).unwrap();
    let names: Vec<_> = record.iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(names, ["w", "x.y"]);
}
