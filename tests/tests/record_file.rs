//! Records read one tensor at a time.

use quant::record::{RecordEntry, RecordFile};
use quant::record::{RecordFormatError, SectionKind};
use quant::{BincodeRecorder, Module, RecordError, Tensor};
use tests::files::file;
use tests::record::{bytes_of_everything, chain, of_everything};

#[test]
fn tensors_read_one_at_a_time_equal_the_whole_record() {
    let (_directory, path) = file(&bytes_of_everything());
    let (record, opened) = (of_everything(), RecordFile::open(&path).unwrap());
    assert_eq!(opened.metadata(), record.metadata());
    assert_eq!(opened.states().unwrap(), record.states());
    assert_eq!(opened.byte_count(), bytes_of_everything().len() as u64);
    assert_eq!(opened.entries().len(), record.len());
    // Backwards, since tensors can be read in any order.
    for (index, (id, tensor)) in record.iter().enumerate().collect::<Vec<_>>().into_iter().rev() {
        assert_eq!(opened.position(id.as_str()), Some(index));
        assert_eq!(opened.entries()[index], RecordEntry::of(id.clone(), tensor));
        assert_eq!(&opened.read(index).unwrap(), tensor);
        opened.verify(index).unwrap();
        let bytes: u64 = opened.sections(index).map(|section| section.len).sum();
        assert_eq!(opened.entries()[index].byte_count(), bytes);
    }
    assert_eq!(opened.position("no such tensor"), None);
    opened.verify_all().unwrap();
}

#[test]
fn threads_read_one_file_in_parallel() {
    let (_directory, path) = file(&bytes_of_everything());
    let (record, opened) = (of_everything(), RecordFile::open(&path).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (record, opened) = (&record, &opened);
            scope.spawn(move || {
                for round in 0..200 {
                    let index = (thread + round) % record.len();
                    let expected = record.get(opened.entries()[index].id.as_str()).unwrap();
                    assert_eq!(&opened.read(index).unwrap(), expected);
                }
            });
        }
    });
}

/// The bytes with the first bit of a section flipped.
fn damaged(bytes: &[u8], index: usize, kind: SectionKind) -> Vec<u8> {
    let (_directory, path) = file(bytes);
    let opened = RecordFile::open(&path).unwrap();
    let section = opened.sections(index).find(|section| section.kind == kind).unwrap();
    let mut bytes = bytes.to_vec();
    bytes[section.offset as usize] ^= 1;
    bytes
}

#[test]
fn every_damaged_section_is_reported_and_the_others_are_read() {
    let bytes = bytes_of_everything();
    let (_directory, path) = file(&bytes);
    let clean = RecordFile::open(&path).unwrap();
    let affine = clean.position("int4.channel_affine").unwrap();
    let matrix = clean.position("float.matrix").unwrap();
    let bytes = damaged(&bytes, affine, SectionKind::Scales);
    let bytes = damaged(&bytes, affine, SectionKind::ZeroPoints);
    let mut bytes = damaged(&bytes, matrix, SectionKind::Values);
    let last = bytes.len() - 1;
    bytes[last] = 1; // padding of the last state

    let (_directory, path) = file(&bytes);
    let opened = RecordFile::open(&path).unwrap();
    let errors = opened.verify_all().unwrap_err();
    let file = format!("{}: invalid record: ", path.display());
    let texts: Vec<_> = errors.iter().map(|error| chain(error).replace(&file, "")).collect();
    assert_eq!(texts.len(), 4, "{texts:?}");
    assert!(texts[0].starts_with("float.matrix: values damaged"), "{texts:?}");
    assert!(texts[1].starts_with("int4.channel_affine: scales damaged"), "{texts:?}");
    assert!(texts[2].starts_with("int4.channel_affine: zero points damaged"), "{texts:?}");
    assert!(
        matches!(errors[3], RecordError::Format { source: RecordFormatError::Padding { at }, .. } if at == last as u64)
    );
    assert!(matches!(
        opened.verify(matrix),
        Err(RecordError::Format { source: RecordFormatError::SectionChecksum { .. }, .. })
    ));
    assert!(matches!(
        opened.read(affine),
        Err(RecordError::Format {
            source: RecordFormatError::SectionChecksum { kind: SectionKind::Scales, .. },
            ..
        })
    ));
    opened.read(clean.position("int8.tensor").unwrap()).unwrap();
    assert!(matches!(
        opened.states(),
        Err(RecordError::Format { source: RecordFormatError::Padding { .. }, .. })
    ));
}

#[test]
fn reading_rejects_codes_outside_of_the_scheme() {
    let mut draft = tests::record::Draft::int8();
    draft.payload[1] = 0x80;
    draft.tensor().sections[0].2 = crc32fast::hash(&[0, 0x80]);
    let (_directory, path) = file(&draft.bytes());
    let opened = RecordFile::open(&path).unwrap();
    opened.verify_all().unwrap();
    let error = opened.read(0).unwrap_err();
    assert!(
        matches!(error, RecordError::Format { source: RecordFormatError::Tensor { .. }, .. }),
        "{error:?}"
    );
}

#[test]
fn opening_rejects_invalid_records() {
    let bytes = bytes_of_everything();
    for len in (0..bytes.len()).step_by(7) {
        let (_directory, path) = file(&bytes[..len]);
        let error = RecordFile::open(&path).unwrap_err();
        assert!(
            matches!(
                error,
                RecordError::Format { source: RecordFormatError::Truncated { .. }, .. }
            ),
            "{len}: {error:?}"
        );
    }
    let (_directory, path) = file(&[bytes.as_slice(), &[0]].concat());
    assert!(matches!(
        RecordFile::open(&path),
        Err(RecordError::Format { source: RecordFormatError::TrailingBytes { .. }, .. })
    ));
    for position in 0..bytes.len().min(1000) {
        let mut bytes = bytes.clone();
        bytes[position] ^= 0x10;
        let (_directory, path) = file(&bytes);
        assert!(RecordFile::open(&path).is_err(), "{position}");
    }
    let directory = tempfile::tempdir().unwrap();
    let error = RecordFile::open(directory.path()).unwrap_err();
    assert!(matches!(error, RecordError::Io { path: Some(_), .. }), "{error:?}");
    let error = RecordFile::open(directory.path().join("missing")).unwrap_err();
    assert!(matches!(error, RecordError::Io { path: Some(_), .. }), "{error:?}");
}

#[test]
fn an_open_record_keeps_its_content_when_the_file_is_replaced() {
    let (_directory, path) = file(&bytes_of_everything());
    let opened = RecordFile::open(&path).unwrap();
    let other = Tensor::from_values(&[1], vec![7.0]).unwrap();
    other.save_file(&path, &BincodeRecorder::default()).unwrap();
    let record = of_everything();
    for (index, (_, tensor)) in record.iter().enumerate() {
        assert_eq!(&opened.read(index).unwrap(), tensor);
    }
    assert_eq!(RecordFile::open(&path).unwrap().entries().len(), 1);
}

#[test]
fn entries_that_do_not_form_a_tensor_have_no_size() {
    let scheme = "per-channel-symmetric-int8:axis=3".parse().ok();
    assert_eq!(RecordEntry::new("w", [2, 2], scheme).byte_count(), u64::MAX);
    assert_eq!(RecordEntry::new("w", [usize::MAX, 2], None).byte_count(), u64::MAX);
}
