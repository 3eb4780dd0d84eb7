//! Mapped records, and models that borrow from them.

use std::fs;
use std::path::Path;

use quant::record::{Manifest, MappedRecord, RecordFormatError, SectionKind, Verify};
use quant::record::{Record, RecordEntry, RecordFile, RecordWriter, Recorder};
use quant::tensor::SharedTensor;
use quant::{BincodeRecorder, MinMaxCalibration, Module, Param, Quantizer, RecordError, Tensor};
use tests::files::file;
use tests::record::{Draft, bytes_of_everything, of_everything, reason, version_1};

const MODES: [Verify; 3] = [Verify::Eager, Verify::Lazy, Verify::Explicit];

fn map(path: &Path, verify: Verify) -> Result<MappedRecord, RecordError> {
    // SAFETY: the tests replace and remove their files, and do not change them in place.
    unsafe { MappedRecord::open(path, verify) }
}

#[test]
fn mapped_records_equal_those_that_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    let record = of_everything();
    for recorder in [BincodeRecorder::default(), BincodeRecorder::default().max_shard_size(700)] {
        record.save_file(&path, &recorder).unwrap();
        for verify in MODES {
            let mapped = map(&path, verify).unwrap();
            assert_eq!(mapped.to_record().unwrap(), record);
            assert_eq!(mapped.metadata(), record.metadata());
            assert_eq!(mapped.states().unwrap(), record.states());
            for (index, (id, tensor)) in record.iter().enumerate() {
                assert_eq!(mapped.position(id.as_str()), Some(index));
                assert_eq!(mapped.entries()[index], RecordEntry::of(id.clone(), tensor));
                mapped.verify(index).unwrap();
            }
            mapped.verify_all().unwrap();
        }
    }
}

#[test]
fn mapped_records_are_saved_with_the_same_bytes() {
    let (_directory, path) = file(&bytes_of_everything());
    let mapped = map(&path, Verify::Lazy).unwrap().to_record().unwrap();
    assert_eq!(mapped.save_bytes(&version_1()).unwrap(), bytes_of_everything());
    // To the file that it borrows from.
    mapped.save_file(&path, &version_1()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes_of_everything());
    assert_eq!(mapped, of_everything());
}

#[derive(Module, Clone)]
struct Layer {
    weight: Param<SharedTensor>,
    copied: Param<[[f32; 4]; 2]>,
}

fn layer(value: f32) -> Layer {
    let weight = SharedTensor::new(&[2, 4], vec![value; 8]).unwrap();
    Layer { weight: weight.into(), copied: [[value; 4]; 2].into() }
}

fn quantized(layer: Layer) -> Layer {
    let scheme = "per-channel-affine-int8".parse().unwrap();
    layer.quantize_weights(Quantizer { calibration: MinMaxCalibration {}, scheme }).unwrap()
}

#[test]
fn parameters_borrow_if_their_storage_can() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    layer(3.0).save_file(&path, &BincodeRecorder::default()).unwrap();
    let mapped = map(&path, Verify::Lazy).unwrap();
    let float = layer(0.0).load_record(mapped.to_record().unwrap()).unwrap();
    assert!(float.weight.as_float().unwrap().is_borrowed());
    assert_eq!(float.weight.value().as_slice().unwrap(), [3.0; 8]);
    assert_eq!(*float.copied.value(), [[3.0; 4]; 2]);
    // Clones borrow too, and what is computed from them owns its memory.
    let clone = float.clone();
    let address = |layer: &Layer| layer.weight.as_float().unwrap().as_slice().unwrap().as_ptr();
    assert_eq!(address(&clone), address(&float));
    let quantized = quantized(clone);
    assert!(!quantized.weight.quantized().unwrap().is_borrowed());

    quantized.save_file(&path, &BincodeRecorder::default()).unwrap();
    let mapped = map(&path, Verify::Explicit).unwrap();
    let loaded = layer(0.0).load_record(mapped.to_record().unwrap()).unwrap();
    drop(mapped);
    assert!(loaded.weight.quantized().unwrap().is_borrowed());
    assert!(loaded.copied.quantized().unwrap().is_borrowed());
    assert_eq!(loaded.copied, quantized.copied);
    assert_eq!(loaded.weight, quantized.weight);
    // The map lives as long as the tensors that borrow from it, even if the file is removed.
    fs::remove_file(&path).unwrap();
    assert_eq!(*loaded.copied.value(), *quantized.copied.value());
    let dequantized = loaded.dequantize();
    assert!(!dequantized.weight.as_float().unwrap().is_borrowed());
    assert_eq!(float.weight.value().as_slice().unwrap(), [3.0; 8]);
}

#[test]
fn a_tensor_is_made_once_and_shared_after() {
    let (_directory, path) = file(&bytes_of_everything());
    let mapped = map(&path, Verify::Lazy).unwrap();
    let index = mapped.position("int8.tensor").unwrap();
    let (a, b) = (mapped.tensor(index).unwrap(), mapped.tensor(index).unwrap());
    let address = |tensor: &Tensor| tensor.quantized().unwrap().packed_codes().as_ptr();
    assert_eq!(address(&a), address(&b));
    assert_eq!(address(&a) as usize % 64, 0);
}

/// The sample with a bit of a section flipped.
fn damaged(name: &str, kind: SectionKind) -> Vec<u8> {
    let (_directory, path) = file(&bytes_of_everything());
    let opened = RecordFile::open(&path).unwrap();
    let index = opened.position(name).unwrap();
    let section = opened.sections(index).find(|section| section.kind == kind).unwrap();
    let mut bytes = bytes_of_everything();
    bytes[section.offset as usize] ^= 1;
    bytes
}

#[test]
fn damage_is_found_when_checksums_are_verified() {
    let (_directory, path) = file(&damaged("float.matrix", SectionKind::Values));
    let error = map(&path, Verify::Eager).unwrap_err();
    assert!(
        matches!(&error, RecordError::Format { source: RecordFormatError::SectionChecksum { id, .. }, .. } if *id == "float.matrix")
    );

    let lazy = map(&path, Verify::Lazy).unwrap();
    let index = lazy.position("float.matrix").unwrap();
    for _ in 0..2 {
        assert!(matches!(
            lazy.tensor(index),
            Err(RecordError::Format { source: RecordFormatError::SectionChecksum { .. }, .. })
        ));
    }
    lazy.tensor(index + 1).unwrap();
    assert!(lazy.to_record().is_err());

    let explicit = map(&path, Verify::Explicit).unwrap();
    assert_ne!(&explicit.tensor(index).unwrap(), of_everything().get("float.matrix").unwrap());
    assert!(matches!(
        explicit.verify(index),
        Err(RecordError::Format { source: RecordFormatError::SectionChecksum { .. }, .. })
    ));
    assert_eq!(explicit.verify_all().unwrap_err().len(), 1);

    let mut padding = bytes_of_everything();
    let (_other, clean) = file(&bytes_of_everything());
    let at = RecordFile::open(&clean).unwrap().sections(0).next().unwrap();
    padding[(at.offset + at.len) as usize] = 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, padding).unwrap();
    let lazy = map(&path, Verify::Lazy).unwrap();
    let error = lazy.tensor(0).unwrap_err();
    assert!(
        matches!(error, RecordError::Format { source: RecordFormatError::Padding { at: byte }, .. } if byte == at.offset + at.len)
    );
}

#[test]
fn codes_and_scales_are_always_checked() {
    for (position, value) in [(1, 0x80), (67, 0x80)] {
        let mut draft = Draft::int8();
        draft.payload[position] = value;
        let (_directory, path) = file(&draft.bytes());
        let mapped = map(&path, Verify::Explicit).unwrap();
        let error = mapped.tensor(0).unwrap_err();
        assert!(
            matches!(error, RecordError::Format { source: RecordFormatError::Tensor { .. }, .. }),
            "{error:?}"
        );
    }
}

#[test]
fn rejects_invalid_records() {
    for bytes in [&b""[..], &bytes_of_everything()[..100]] {
        let (_directory, path) = file(bytes);
        let error = reason(map(&path, Verify::Lazy).unwrap_err());
        assert!(matches!(error, RecordFormatError::Truncated { .. }), "{error:?}");
    }
    let (_directory, path) = file(b"x");
    let error = reason(map(&path, Verify::Lazy).unwrap_err());
    assert!(matches!(error, RecordFormatError::BadMagic { .. }), "{error:?}");
    let error = map(Path::new("no/such/file"), Verify::Lazy).unwrap_err();
    assert!(matches!(error, RecordError::Io { path: Some(_), .. }));
}

#[test]
fn a_map_keeps_the_old_content_when_the_file_is_replaced() {
    for recorder in [BincodeRecorder::default(), BincodeRecorder::default().max_shard_size(700)] {
        let (_directory, path) = file(&bytes_of_everything());
        of_everything().save_file(&path, &recorder).unwrap();
        let mapped = map(&path, Verify::Lazy).unwrap();
        Record::new().save_file(&path, &recorder).unwrap();
        assert_eq!(mapped.to_record().unwrap(), of_everything());
        assert!(BincodeRecorder::default().load_file(&path).unwrap().is_empty());
    }
}

#[test]
fn threads_touch_one_map_at_the_same_time() {
    let (_directory, path) = file(&bytes_of_everything());
    let (record, mapped) = (of_everything(), map(&path, Verify::Lazy).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (index, (_, tensor)) in record.iter().enumerate() {
                    assert_eq!(&mapped.tensor(index).unwrap(), tensor);
                }
            });
        }
    });
}

/// A record of `tensors` float tensors of a MiB each.
fn large(path: &Path, tensors: usize) {
    let entries = (0..tensors).map(|i| RecordEntry::new(i.to_string(), [512, 512], None));
    let mut writer = RecordWriter::create(path, Manifest::new(entries)).unwrap();
    for i in 0..tensors {
        let tensor = Tensor::from_values(&[512, 512], vec![i as f32; 512 * 512]).unwrap();
        writer.write(&i.to_string(), &tensor).unwrap();
    }
    writer.finish().unwrap();
}

/// The resident size of a mapped file in KiB.
#[cfg(target_os = "linux")]
fn resident(path: &Path) -> usize {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut of_file = false;
    let mut sum = 0;
    for line in maps.lines() {
        if line.contains(" r--") {
            of_file = line.ends_with(&*path.to_string_lossy());
        } else if let Some(kib) = line.strip_prefix("Rss:").filter(|_| of_file) {
            sum += kib.trim().trim_end_matches(" kB").parse::<usize>().unwrap();
        } else if line.split(' ').next().is_some_and(|range| range.contains('-')) {
            of_file = false;
        }
    }
    sum
}

#[cfg(target_os = "linux")]
#[test]
fn using_a_tensor_reads_that_tensor_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap().join("large.quant");
    large(&path, 32);
    let mapped = map(&path, Verify::Lazy).unwrap();
    assert_eq!(resident(&path), 0);
    let tensor = mapped.tensor(16).unwrap();
    assert!(tensor.values().iter().all(|&value| value == 16.0));
    // Linux maps up to 64 KiB around a fault that are in memory already.
    assert!((1024..=1024 + 128).contains(&resident(&path)), "{}", resident(&path));
}

/// Run it by name: it writes a GiB, and prints what it measures.
#[cfg(target_os = "linux")]
#[ignore = "writes a GiB, and measures time"]
#[test]
fn a_gibibyte_opens_at_once() {
    fn status(key: &str, file: &str) -> u64 {
        let status = fs::read_to_string(file).unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap().join("large.quant");
    large(&path, 1024);
    // Out of the page cache, so that what is read is counted.
    let evict = format!("of={}", path.display());
    let dd = std::process::Command::new("dd")
        .args([&evict, "oflag=nocache", "conv=notrunc,fdatasync", "count=0"])
        .output();
    assert!(dd.unwrap().status.success());
    let read = || status("read_bytes:", "/proc/self/io");

    let (before, start) = (read(), std::time::Instant::now());
    let mapped = map(&path, Verify::Lazy).unwrap();
    let opened = start.elapsed();
    let (file_kib, rss_kib) = (resident(&path), status("VmRSS:", "/proc/self/status"));
    println!("opened in {opened:?}, {} bytes read from the disk", read() - before);
    println!("resident: {rss_kib} KiB in the process, of which {file_kib} of the file");

    let (before, start) = (read(), std::time::Instant::now());
    let tensor = mapped.tensor(500).unwrap();
    assert_eq!(tensor.values()[0], 500.0);
    println!(
        "a tensor of 1 MiB in {:?}: {} bytes read from the disk, {} KiB resident",
        start.elapsed(),
        read() - before,
        resident(&path)
    );
    let start = std::time::Instant::now();
    mapped.verify_all().unwrap();
    println!("all checksums in {:?}", start.elapsed());
}
