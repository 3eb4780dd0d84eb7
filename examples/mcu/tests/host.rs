//! The network without a heap has the classes and the bits of `quant` and `quant-nn`.
//!
//! `QUANT_BLESS=1` writes the record and the images again.

use std::path::Path;

use examples::digits::{self, Samples};
use examples::mlp::Mlp;
use mcu::{CLASSES, Network, NetworkError, PIXELS, RECORD, SAMPLES, class, line};
use quant::{BincodeRecorder, Module};

fn load(record: &[u8]) -> Mlp {
    let fresh = Mlp::new(&mut fastrand::Rng::with_seed(0));
    fresh.load_bytes(record, &BincodeRecorder::default()).unwrap()
}

/// The logits of `quant-nn`, image by image.
fn by_quant_nn(held_out: &Samples) -> Vec<[f32; CLASSES]> {
    let logits = load(RECORD).forward(&held_out.images).unwrap();
    logits.rows().into_iter().map(|row| row.to_vec().try_into().unwrap()).collect()
}

/// Compares with the committed file, or writes it.
fn assert_committed(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("QUANT_BLESS").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(std::fs::read(path).unwrap() == bytes, "{name} is another one");
}

#[test]
fn the_committed_record_is_the_model_of_the_example_in_static_int8() {
    let (train, _) = digits::load();
    let float = include_bytes!("../../digits/digits-f32.quant");
    let model = load(float).quantize_static(&train).unwrap();
    assert_committed("digits-int8.quant", &model.save_bytes(&BincodeRecorder::default()).unwrap());
}

#[test]
fn the_committed_images_are_those_held_out() {
    let (_, Samples { images, digits }) = digits::load();
    let mut bytes = Vec::new();
    for (image, digit) in images.rows().into_iter().zip(digits) {
        bytes.extend(image.iter().map(|pixel| (pixel * 16.0) as u8));
        bytes.push(digit as u8);
    }
    assert_committed("held-out.bin", &bytes);
}

#[test]
fn classes_and_bits_of_all_logits_are_those_of_quant_nn() {
    let (_, held_out) = digits::load();
    let network = Network::new(RECORD).unwrap();
    let (mut right, expected) = (0, by_quant_nn(&held_out));
    let predicted = load(RECORD).predict(&held_out.images).unwrap();
    assert_eq!((SAMPLES.len(), expected.len()), (360, 360));
    for ((sample, expected), predicted) in SAMPLES.iter().zip(&expected).zip(predicted) {
        let logits = network.logits(sample.first_chunk().unwrap()).unwrap();
        assert_eq!(logits.map(f32::to_bits), expected.map(f32::to_bits));
        assert_eq!(class(&logits), predicted);
        right += usize::from(class(&logits) == usize::from(sample[PIXELS]));
    }
    // The accuracy in the guide.
    assert_eq!(right, 350);
}

#[test]
fn a_line_has_the_class_and_the_bits() {
    let mut logits = [-1.0; CLASSES];
    logits[3] = 2.5;
    logits[7] = f32::from_bits(0x0123_cdef);
    let expected = "3 bf800000 bf800000 bf800000 40200000 bf800000 bf800000 bf800000 0123cdef \
                    bf800000 bf800000\n";
    assert_eq!(std::str::from_utf8(&line(&logits)).unwrap(), expected);
}

#[test]
fn records_of_other_models_are_refused() {
    assert!(matches!(Network::new(&RECORD[..100]), Err(NetworkError::Record(_))));
    let float = include_bytes!("../../digits/digits-f32.quant");
    assert_eq!(Network::new(float).err(), Some(NetworkError::Layer { name: "fc1" }));
}
