//! The reader without a heap finds in a record what `quant` finds, and takes no other files.

use proptest::prelude::*;
use quant::record::{Manifest, Record, RecordEntry, RecordWriter, Recorder};
use quant::{BincodeRecorder, MinMaxCalibration, Module, Quantizer, RecordError, Tensor};
use quant_record::{RecordError as Refused, SectionFault, SectionKind};
use tests::mutate::mutate;
use tests::random::Random;
use tests::record::{
    Draft, Entry, bytes_of_everything, native, of_everything, of_version_2, reseal,
};

fn load(bytes: &[u8]) -> Result<Record, RecordError> {
    BincodeRecorder::default().load(&mut &*bytes, Some(bytes.len() as u64))
}

fn refused(bytes: &[u8]) -> Refused<'_> {
    assert!(load(bytes).is_err(), "`quant` takes it");
    let error = quant_record::Record::new(bytes).expect_err("an invalid record");
    assert!(!error.to_string().is_empty());
    error
}

fn bits(values: impl IntoIterator<Item = f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

/// Compares everything that both readers find.
fn assert_same(borrowed: &quant_record::Record<'_>, record: &Record) {
    let names: Vec<&str> = borrowed.tensors().map(|tensor| tensor.name()).collect();
    assert_eq!(names, record.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>());
    for (tensor, (_, own)) in borrowed.tensors().zip(record) {
        assert_same_tensor(&tensor, own);
    }
    let pairs: Vec<_> = borrowed.metadata().map(|(k, v)| (k.into(), v.into())).collect();
    assert_eq!(record.metadata(), &pairs.into_iter().collect());
    let states = borrowed.states().map(|state| (state.name(), state.kind(), state.data()));
    let own = record.states().iter().map(|own| (own.id.as_str(), &*own.kind, &*own.data));
    assert!(states.eq(own));
}

fn assert_same_tensor(tensor: &quant_record::Tensor<'_>, own: &Tensor) {
    assert_eq!(**tensor.shape(), *own.shape(), "{}", tensor.name());
    let values: Vec<f32> = (0..).map_while(|position| tensor.value(position)).collect();
    assert_eq!(values.len(), tensor.element_count());
    assert_eq!(bits(values), bits(own.values().iter().copied()), "{}", tensor.name());
    let Some(own) = own.quantized() else {
        let (floats, ty) = (tensor.floats().unwrap(), own.float_type().unwrap());
        assert_eq!(format!("{:?}", floats.float_type()), format!("{ty:?}"));
        assert_eq!(bits(floats.iter()), bits(own.values().iter().copied()));
        return;
    };
    let quantized = tensor.quantized().unwrap();
    assert_eq!(quantized.scheme(), own.scheme());
    let rows = quantized.codes().rows();
    assert_eq!(rows.flat_map(|row| row.iter()).collect::<Vec<_>>(), own.codes());
    for row in quantized.codes().rows().filter(|_| quantized.codes().width() == 8) {
        assert!(row.as_i8().unwrap().iter().copied().eq(row.iter()));
    }
    assert_eq!(bits(quantized.scales().iter()), bits(own.scales().iter().copied()));
    assert_eq!(quantized.zero_points(), own.zero_points());
    assert_eq!(bits(quantized.minimums().iter()), bits(own.minimums().iter().copied()));
    assert_eq!(quantized.groups(), own.groups());
    for group in 0..own.groups().count() {
        let params = own.minimums().is_empty().then(|| own.params(group));
        assert_eq!(quantized.params(group), params);
    }
}

#[test]
fn every_fixture_has_the_names_shapes_codes_and_scales_that_quant_reads() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let record = BincodeRecorder::default().load_file(&path).unwrap();
        let file = std::fs::read(&path).unwrap();
        // At every alignment, as in flash.
        for shift in 0..8 {
            let bytes = [&[0; 8][..shift], &file].concat();
            assert_same(&quant_record::Record::new(&bytes[shift..]).unwrap(), &record);
        }
        count += 1;
    }
    assert_eq!(count, 5);
}

/// A walk over the bytes of a header.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    fn number(&mut self) -> Option<usize> {
        let number = self.bytes.get(self.at..self.at.checked_add(8)?)?;
        self.at += 8;
        usize::try_from(u64::from_le_bytes(number.try_into().ok()?)).ok()
    }

    fn skip(&mut self, len: usize) -> Option<()> {
        self.at = self.at.checked_add(len).filter(|at| *at <= self.bytes.len())?;
        Some(())
    }

    fn skip_string(&mut self) -> Option<()> {
        let len = self.number()?;
        self.skip(len)
    }

    /// Where the header describes its sections, up to what cannot be decoded.
    fn sections(mut self) -> Vec<usize> {
        let mut found = Vec::new();
        let mut walk = || {
            for _ in 0..self.number()? {
                self.skip_string()?;
                self.skip_string()?;
            }
            for _ in 0..self.number()? {
                self.skip_string()?;
                let rank = self.number()?;
                self.skip(rank.checked_mul(8)?)?;
                self.skip(13)?;
                self.skip(60)?;
                found.extend([60, 40, 20].map(|section| self.at - section));
            }
            for _ in 0..self.number()? {
                self.skip_string()?;
                self.skip_string()?;
                self.skip(20)?;
                found.push(self.at - 20);
            }
            Some(())
        };
        let _ = walk();
        found
    }
}

/// Corrects the checksums of all sections, as an attacker would.
fn reseal_sections(record: &mut [u8]) {
    let Some(header) = record.get(..32).map(|prelude| prelude[16..24].try_into().unwrap()) else {
        return;
    };
    let end = record.len().min(u64::from_le_bytes(header).saturating_add(32) as usize);
    for at in (Walk { bytes: &record[..end], at: 32 }).sections() {
        let number = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
        let (start, len) = (number(at) as usize, number(at + 8) as usize);
        if let Some(section) = record.get(start..start.saturating_add(len)) {
            let crc = crc32fast::hash(section).to_le_bytes();
            record[at + 16..at + 20].copy_from_slice(&crc);
        }
    }
    reseal(record);
}

#[test]
fn two_hundred_thousand_mutated_records_are_taken_as_quant_takes_them() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
    let alias = std::fs::read(format!("{folder}/record-v2-alias.quant")).unwrap();
    let samples = [bytes_of_everything(), native(&of_version_2()), alias];
    let (mut random, mut accepted) = (Random(7), 0);
    for round in 0..200_000 {
        let mut bytes = samples[round % 3].clone();
        for _ in 0..1 + random.below(3) {
            // Half of them in prelude and header, where numbers mean something.
            let end = if random.below(2) == 0 { usize::MAX } else { 1300 };
            mutate(&mut bytes, end, &[0, 1, 2, 0x7F, 0x80, 0xFF], &mut random);
        }
        match random.below(4) {
            0 => reseal(&mut bytes),
            _ => reseal_sections(&mut bytes),
        }
        let (borrowed, record) = (quant_record::Record::new(&bytes), load(&bytes));
        match (&borrowed, &record) {
            (Ok(borrowed), Ok(record)) => assert_same(borrowed, record),
            (Err(error), Err(_)) => assert!(!error.to_string().is_empty()),
            _ => panic!("round {round}: {borrowed:?}, and `quant` {record:?}"),
        }
        accepted += usize::from(record.is_ok());
    }
    assert!((5_000..100_000).contains(&accepted), "{accepted}");
}

#[test]
fn random_bytes_are_refused() {
    let mut random = Random(8);
    for round in 0..20_000 {
        let mut bytes = bytes_of_everything()[..32 * (round % 2)].to_vec();
        bytes.extend((0..random.below(300)).map(|_| random.bits() as u8));
        reseal(&mut bytes);
        assert!(quant_record::Record::new(&bytes).is_err());
    }
}

#[test]
fn a_truncation_at_every_byte_is_refused() {
    let bytes = bytes_of_everything();
    for len in 0..bytes.len() {
        assert!(quant_record::Record::new(&bytes[..len]).is_err(), "{len}");
    }
    assert_eq!(refused(&bytes[..9]), Refused::FileLen { expected: 32, found: 9 });
    let longer = [&bytes[..], &[0; 64]].concat();
    let (expected, found) = (bytes.len() as u64, longer.len());
    assert_eq!(refused(&longer), Refused::FileLen { expected, found });
}

/// A draft with one defect.
fn broken(mut draft: Draft, defect: impl FnOnce(&mut Draft)) -> Vec<u8> {
    quant_record::Record::new(&draft.bytes()).expect("the draft without the defect is valid");
    defect(&mut draft);
    draft.bytes()
}

#[test]
fn preludes_that_are_wrong_are_refused() {
    let with = |at: usize, new: &[u8]| {
        let mut bytes = Draft::floats().bytes();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    assert_eq!(refused(b""), Refused::BadMagic);
    assert_eq!(refused(&with(0, b"GGUF")), Refused::BadMagic);
    assert_eq!(quant_record::Record::new(&with(3, b"I")).err(), Some(Refused::ShardIndex));
    assert_eq!(refused(&with(8, &[3])), Refused::UnsupportedVersion { found: 3 });
    assert!(matches!(refused(&with(40, &[7])), Refused::HeaderChecksum { .. }));
    assert_eq!(refused(&with(16, &[0xFF; 8])), Refused::HeaderTooLong { len: u64::MAX });
}

#[test]
fn headers_that_cannot_be_decoded_are_refused() {
    for defect in [
        |draft: &mut Draft| draft.tensor().name = vec![0xFF],
        |draft: &mut Draft| draft.metadata = vec![(b"k".into(), vec![0xC3])],
        |draft: &mut Draft| draft.surplus = vec![0; 8],
    ] {
        assert_eq!(refused(&broken(Draft::floats(), defect)), Refused::HeaderEncoding);
    }
    let mut bytes = Draft::default().bytes();
    bytes[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
    reseal(&mut bytes);
    assert_eq!(refused(&bytes), Refused::HeaderEncoding);
}

#[test]
fn names_and_keys_that_are_not_distinct_are_refused() {
    let pair = |key: &str| (key.as_bytes().to_vec(), b"w".to_vec());
    let twice = broken(Draft::floats(), |draft| {
        let section = (64, 0, 0);
        draft.tensors.push(Entry { shape: vec![0], sections: [section; 3], ..Entry::floats("w") });
    });
    assert_eq!(refused(&twice), Refused::DuplicateName { name: "w" });
    let states = broken(Draft::floats(), |draft| {
        draft.states = vec![(b"s".into(), b"k".into(), (64, 0, 0)); 2];
    });
    assert_eq!(refused(&states), Refused::DuplicateName { name: "s" });
    let keys = broken(Draft::floats(), |draft| draft.metadata = vec![pair("b"), pair("a")]);
    assert_eq!(refused(&keys), Refused::MetadataOrder { key: "a" });

    let alias = |key: &str, value: &str| {
        let mut bytes = broken(Draft::floats(), |draft| {
            draft.metadata = vec![(format!("quant.alias.{key}").into(), value.into())];
        });
        bytes[8] = 2;
        reseal(&mut bytes);
        bytes
    };
    assert_eq!(refused(&alias("w", "w")), Refused::DuplicateName { name: "w" });
    assert_eq!(refused(&alias("v", "u")), Refused::Alias { name: "v", of: "u" });
    let bytes = alias("v", "w");
    assert_same(&quant_record::Record::new(&bytes).unwrap(), &load(&bytes).unwrap());
    let mut many = broken(Draft::floats(), |draft| {
        draft.payload = vec![0; 16 << 10];
        draft.tensor().shape = vec![4 << 10];
        draft.tensor().sections =
            [(0, 16 << 10, crc32fast::hash(&[0; 16 << 10])), (16 << 10, 0, 0), (16 << 10, 0, 0)];
        draft.metadata = vec![pair("quant.alias.a"), pair("quant.alias.b")];
    });
    many[8] = 2;
    reseal(&mut many);
    assert_eq!(refused(&many), Refused::AliasBytes { name: "b" });
}

#[test]
fn undefined_schemes_and_shapes_are_refused() {
    for (numbers, field) in [
        ([4, 8, 0, 0, 0], "kind"),
        ([1, 9, 0, 0, 0], "bits"),
        ([1, 8, 2, 0, 0], "mapping"),
        ([1, 8, 0, 3, 0], "granularity"),
        ([1, 8, 0, 0, 1], "scale type"),
        ([1, 8, 0, 2, 0], "block length"),
        ([0, 8, 0, 0, 0], "bits"),
    ] {
        let bytes = broken(Draft::int8(), |draft| draft.tensor().numbers = numbers);
        let Refused::Encoding { name: "w", field: found, .. } = refused(&bytes) else {
            panic!("{:?}", refused(&bytes))
        };
        assert_eq!(found, field);
    }
    let axis = broken(Draft::int8(), |draft| draft.tensor().axis = 1);
    assert_eq!(refused(&axis), Refused::Encoding { name: "w", field: "axis", value: 1 });
    let missing = broken(Draft::int8(), |draft| {
        draft.tensor().numbers = [1, 8, 0, 1, 0];
        draft.tensor().axis = 1;
    });
    assert_eq!(refused(&missing), Refused::Shape { name: "w" });
    let huge = broken(Draft::floats(), |draft| draft.tensor().shape = vec![1 << 40, 0, 1 << 40]);
    assert_eq!(refused(&huge), Refused::Shape { name: "w" });
}

#[test]
fn sections_that_are_not_where_they_must_be_are_refused() {
    use SectionFault::{Checksum, Length, Offset, PastEnd};
    let fault = |bytes: &[u8]| match refused(bytes) {
        Refused::Section { name, kind, fault } => (name.to_owned(), kind, fault),
        other => panic!("{other:?}"),
    };
    let bytes = broken(Draft::int8(), |draft| draft.tensor().sections[1].0 = 128);
    let (name, kind, offset) = fault(&bytes);
    assert_eq!((&*name, kind), ("w", SectionKind::Scales));
    assert!(matches!(offset, Offset { .. }), "{offset:?}");
    let bytes = broken(Draft::int8(), |draft| draft.tensor().sections[0].1 = 3);
    assert_eq!(fault(&bytes).2, Length { expected: 2, found: 3 });
    let bytes = broken(Draft::int8(), |draft| draft.tensor().sections[0].2 ^= 1);
    assert!(matches!(fault(&bytes).2, Checksum { .. }));
    let bytes = broken(Draft::floats(), |draft| {
        draft.states = vec![(b"s".into(), b"k".into(), (64, u64::MAX, 0))];
    });
    assert_eq!(fault(&bytes), ("s".into(), SectionKind::State, PastEnd { len: u64::MAX }));
    let bytes = broken(Draft::floats(), |draft| draft.payload.resize(128, 0));
    assert!(matches!(refused(&bytes), Refused::UnusedBytes { .. }));
    let bytes = broken(Draft::floats(), |draft| draft.payload[10] = 1);
    assert!(matches!(refused(&bytes), Refused::Padding { .. }));
}

#[test]
fn codes_and_scales_that_a_scheme_has_not_are_refused() {
    let with = |at: usize, byte: u8, numbers: [u8; 5]| {
        let mut draft = Draft::int8();
        draft.tensor().numbers = numbers;
        draft.payload[at] = byte;
        let mut bytes = draft.bytes();
        reseal_sections(&mut bytes);
        bytes
    };
    // The least code of a symmetric scheme, and one of 5 bits.
    for bytes in [with(1, 0x80, [1, 8, 0, 0, 0]), with(0, 16, [1, 5, 0, 0, 0])] {
        assert_eq!(refused(&bytes), Refused::Code { name: "w", row: 0 });
    }
    // A negative scale.
    let bytes = with(67, 0xBF, [1, 8, 0, 0, 0]);
    assert_eq!(refused(&bytes), Refused::Scale { name: "w", group: 0 });

    let mut draft = Draft::int8();
    draft.payload.resize(192, 0);
    draft.payload[128] = 16;
    draft.tensor().numbers = [1, 5, 1, 0, 0];
    draft.tensor().sections[2].1 = 1;
    let mut bytes = draft.bytes();
    reseal_sections(&mut bytes);
    assert_eq!(refused(&bytes), Refused::Offset { name: "w", group: 0 });
}

#[test]
fn what_exceeds_the_limits_is_refused_and_taken_by_quant() {
    let tensors = |count: usize| {
        let scalar = |number: usize| {
            (number.to_string(), Tensor::from_values(&[], vec![number as f32]).unwrap())
        };
        (0..count).map(scalar).collect::<Record>()
    };
    let limit = quant_record::ENTRY_LIMIT;
    let bytes = native(&tensors(limit));
    assert_same(&quant_record::Record::new(&bytes).unwrap(), &load(&bytes).unwrap());
    let bytes = native(&tensors(limit + 1));
    let count = limit as u64 + 1;
    assert!(load(&bytes).is_ok());
    assert_eq!(quant_record::Record::new(&bytes).err(), Some(Refused::TooManyEntries { count }));
    let shape = [1; quant_record::RANK_LIMIT + 1];
    let tensor = Tensor::from_values(&shape, vec![1.0]).unwrap();
    let bytes = native(&Record::from_iter([("w", tensor)]));
    let rank = shape.len();
    assert_eq!(
        quant_record::Record::new(&bytes).err(),
        Some(Refused::TooManyAxes { name: "w", rank })
    );
    let long = BincodeRecorder::default().metadata("k", "v".repeat(quant_record::HEADER_LIMIT));
    let bytes = of_everything().save_bytes(&long).unwrap();
    assert!(matches!(quant_record::Record::new(&bytes).err(), Some(Refused::HeaderTooLong { .. })));
}

/// As many names as the limits allow, as long and as much alike as they allow.
#[test]
fn the_most_names_that_fit_are_compared_with_each_other() {
    let name = |kind: &str, number: usize| format!("{}{kind}{number:04}", "n".repeat(200));
    let limit = quant_record::ENTRY_LIMIT;
    let entries =
        (0..limit).map(|number| RecordEntry::new(name("t", number), [], None)).collect::<Vec<_>>();
    let manifest = Manifest::new(entries);
    let aliases = 0..limit;
    let manifest = aliases.fold(manifest, |manifest, number| {
        manifest.alias(name("a", number), name("t", limit - 1 - number))
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("names.quant");
    let mut writer = RecordWriter::create(&path, manifest).unwrap();
    for number in 0..limit {
        let scalar = Tensor::from_values(&[], vec![number as f32]).unwrap();
        writer.write(&name("t", number), &scalar).unwrap();
    }
    writer.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let record = quant_record::Record::new(&bytes).unwrap();
    let alias = name("a", 3);
    let tensor = record.tensor(&alias).unwrap();
    assert_eq!((tensor.name(), tensor.value(0)), (&*alias, Some((limit - 4) as f32)));
    assert_eq!(record.tensor(&name("t", 7)).unwrap().value(0), Some(7.0));
    assert!(record.tensor("n").is_none());
}

#[test]
fn static_inputs_are_read_and_other_states_are_not() {
    let with = |kind: &str, data: &[u8]| {
        let mut draft = Draft::floats();
        draft.payload.extend(data);
        draft.payload.resize(128, 0);
        let section = (64, data.len() as u64, crc32fast::hash(data));
        draft.states = vec![(b"input".into(), kind.into(), section)];
        let bytes = draft.bytes();
        quant_record::Record::new(&bytes).unwrap().state("input").unwrap().static_input()
    };
    let [a, b, c, d] = 0.25f32.to_le_bytes();
    let input = with("activation/1", &[1, 1, 8, 0xFF, a, b, c, d]).unwrap();
    assert_eq!((input.params.scale(), input.params.zero_point()), (0.25, -1));
    assert_eq!((input.codes.min(), input.codes.max()), (-128, 127));
    let input = with("activation/1", &[1, 0, 4, 0, a, b, c, d]).unwrap();
    assert_eq!((input.codes.min(), input.codes.max()), (-7, 7));
    for (kind, data) in [
        ("activation/2", [1, 1, 8, 0, a, b, c, d]),
        ("activation/1", [0, 1, 8, 0, a, b, c, d]),
        ("activation/1", [1, 2, 8, 0, a, b, c, d]),
        ("activation/1", [1, 1, 9, 0, a, b, c, d]),
        ("activation/1", [1, 1, 4, 8, a, b, c, d]),
        ("activation/1", [1, 0, 8, 1, a, b, c, d]),
        ("activation/1", [1, 1, 8, 0, a, b, c, 0xBF]),
    ] {
        assert_eq!(with(kind, &data), None, "{kind} {data:?}");
    }
    assert_eq!(with("activation/1", &[1, 1, 8, 0, a, b, c]), None);
}

const SCHEMES: [&str; 12] = [
    "per-tensor-symmetric-int8",
    "per-tensor-affine-int3",
    "per-channel-affine-int7",
    "per-channel-symmetric-int5:axis=-1",
    "per-channel-full-range-int6:axis=-1",
    "per-channel-minimum-int4",
    "per-block-affine-int4:len=7",
    "per-block-symmetric-int3:len=4:scale=f16",
    "per-block-affine-int2:len=64:scale=f16",
    "per-block-full-range-int3:len=8:scale=bf16",
    "per-block-minimum-int5:len=3:scale=f16",
    "per-block-symmetric-int8:len=1",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tensor_under_any_scheme_is_read_as_quant_reads_it(
        shape in prop::collection::vec(1usize..9, 0..5),
        scheme in prop::sample::select(&SCHEMES[..]),
        seed in any::<u64>(),
        newest in any::<bool>(),
    ) {
        let mut random = Random(seed);
        let values = (0..shape.iter().product::<usize>()).map(|_| 10.0 * random.unit()).collect();
        let float = Tensor::from_values(&shape, values).unwrap();
        let quantizer =
            Quantizer { calibration: MinMaxCalibration {}, scheme: scheme.parse().unwrap() };
        let mut record = Record::from_iter([("float", float.clone())]);
        if let Ok(quantized) = float.quantize_weights(quantizer) {
            record.insert("quantized", quantized);
        }
        let recorder = match newest {
            true => BincodeRecorder::default(),
            false => tests::record::version_1(),
        };
        if let Ok(bytes) = record.save_bytes(&recorder) {
            assert_same(&quant_record::Record::new(&bytes).unwrap(), &load(&bytes).unwrap());
        }
    }
}
