//! Reports: the statistics of a tensor, and a page that loads nothing else.

use std::io;

use quant::calibration::{MseCalibration, PercentileCalibration};
use quant::quantize::quantize_values;
use quant::tensor::{QuantizedTensor, TensorError};
use quant::{MinMaxCalibration, Param, QuantizationScheme, Quantizer};
use quant_formats::report::{Report, TensorReport};
use tests::random::Random;

/// Values as of a layer: roughly normal, and the same each time.
fn normal(len: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..len).map(|_| 0.05 * random.normal()).collect()
}

fn scheme(name: &str) -> QuantizationScheme {
    name.parse().unwrap()
}

fn by_min_max(shape: &[usize], values: &[f32], name: &str) -> QuantizedTensor {
    quantize_values(shape, values, scheme(name), &MinMaxCalibration {}).unwrap()
}

fn tensor(name: &str, shape: &[usize], seed: u64, scheme: &str) -> TensorReport {
    let values = normal(shape.iter().product(), seed);
    let quantized = by_min_max(shape, &values, scheme);
    TensorReport::new(name, shape, &values, Some(&quantized)).unwrap()
}

fn page(report: &Report) -> String {
    let mut page = Vec::new();
    report.write_html(&mut page).unwrap();
    String::from_utf8(page).unwrap()
}

/// The text of a page without its tags; white space is one blank.
fn text(page: &str) -> String {
    let body = page.split("<body>").nth(1).unwrap().replace("<wbr>", "");
    let mut text = String::new();
    for part in body.split('<') {
        text.push_str(part.split_once('>').map_or(part, |(_, after)| after));
        text.push(' ');
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A page of hostile names and extreme values.
fn odd() -> Report {
    let hostile = "a</td><script>alert(1)</script>\"'&\u{202E}";
    let float = |name: &str, shape: &[usize], values: &[f32]| {
        TensorReport::new(name, shape, values, None).unwrap()
    };
    let zeros = by_min_max(&[4, 4], &[0.0; 16], "per-channel-affine-int8");
    Report::new(
        "</title><script>alert(2)</script>",
        [
            tensor(hostile, &[8, 8], 1, "per-channel-symmetric-int4"),
            TensorReport::new("zeros", &[4, 4], &[0.0; 16], Some(&zeros)).unwrap(),
            TensorReport::of_quantized(
                "old",
                &by_min_max(&[2, 3], &[0.1; 6], "per-tensor-affine-int3"),
            ),
            tensor("last", &[6, 70, 3], 2, "per-channel-affine-int5:axis=-1"),
            tensor("block", &[3, 50], 3, "per-block-symmetric-int2:scale=f16"),
            tensor("flat", &[50], 4, "per-block-affine-int4"),
            float("nan", &[3], &[f32::NAN, f32::INFINITY, 1.0]).note("<i>not finite</i>"),
            float("all nan", &[1], &[f32::NAN]),
            float("greatest", &[2], &[f32::MIN, f32::MAX]),
            float("least", &[2], &[1e-45, -1e-45]),
            float("scalar", &[], &[-3.0]),
            float("empty", &[0, 4], &[]),
        ],
    )
    .metadata("<b>source", "\"model\".safetensors")
}

#[test]
fn errors_are_those_that_a_plan_expects() {
    let values = normal(24 * 40, 5);
    for name in [
        "per-tensor-affine-int8",
        "per-channel-symmetric-int4:axis=1",
        "per-block-symmetric-int3:len=7",
    ] {
        let array = ndarray::Array2::from_shape_vec((24, 40), values.clone()).unwrap();
        let quantizer = Quantizer { calibration: MseCalibration {}, scheme: scheme(name) };
        let plan = quantizer.plan(&Param::new(array)).unwrap();
        let expected = plan.params()[0].expected.unwrap();
        let quantized =
            quantize_values(&[24, 40], &values, scheme(name), &MseCalibration {}).unwrap();
        let report = TensorReport::new("w", &[24, 40], &values, Some(&quantized)).unwrap();
        assert!((report.sqnr_db().unwrap() - expected.sqnr_db.unwrap()).abs() < 1e-9);
        assert_eq!(report.max_abs_error(), Some(expected.max_abs_error));
    }
}

#[test]
fn the_tensor_with_the_lowest_sqnr_comes_first() {
    let report = odd();
    let order: Vec<_> = report.tensors().iter().map(|it| it.id().as_str()).collect();
    assert_eq!(order[0], "block");
    assert_eq!(
        order[4..],
        ["zeros", "old", "nan", "all nan", "greatest", "least", "scalar", "empty"]
    );
    let known: Vec<_> = report.tensors().iter().filter_map(TensorReport::sqnr_db).collect();
    assert_eq!(known.len(), 4);
    assert!(known.is_sorted());
}

#[test]
fn names_are_escaped() {
    let page = page(&odd());
    assert_eq!(page.matches("<script").count(), 1);
    assert!(!page.contains("alert(1)</script") && !page.contains("<i>not"));
    assert!(
        page.contains("a&lt;/td&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;\u{FFFD}")
    );
    assert!(page.contains("<title>&lt;/title&gt;&lt;script&gt;"));
    assert!(page.contains("&lt;b&gt;source") && page.contains("&quot;model&quot;.safetensors"));
}

#[test]
fn the_page_loads_nothing_else() {
    let page = page(&odd());
    for word in ["http:", "https:", "//", "src=", "@import", "url("] {
        assert!(!page.contains(word), "{word}");
    }
    for link in page.split("href=\"").skip(1) {
        assert!(link.starts_with('#') || link.starts_with("data:,\""), "{}", &link[..20]);
    }
}

#[test]
fn every_tag_is_closed_and_every_link_leads_somewhere() {
    let empty = Report::new("nothing", []);
    for report in [odd(), empty] {
        let page = page(&report);
        let (head, script) = page.split_once("<script>").unwrap();
        let (before, style) = head.split_once("<style>").unwrap();
        let markup = [
            before,
            style.split_once("</style>").unwrap().1,
            script.split_once("</script>").unwrap().1,
        ];
        let mut open = Vec::new();
        for tag in markup.concat().split('<').skip(1) {
            let name = tag.split([' ', '>', '\n']).next().unwrap();
            match name.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop().as_deref(), Some(name)),
                None if ["!doctype", "meta", "link", "wbr"].contains(&name) => {}
                None if tag.split_once('>').unwrap().0.ends_with('/') => {}
                None => open.push(name.to_owned()),
            }
        }
        assert_eq!(open, [""; 0]);
        for link in page.split("href=\"#").skip(1) {
            let id = link.split('"').next().unwrap();
            assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
        }
        assert!(!page.contains("NaN\"") && !page.contains("inf\"") && !page.contains("=NaN"));
    }
}

#[test]
fn paths_of_pictures_have_numbers_only() {
    let page = page(&odd());
    for path in page.split(" d=\"").skip(1) {
        let path = path.split('"').next().unwrap();
        let allowed = |c: char| c.is_ascii_digit() || "MHVz.- ".contains(c);
        assert!(path.starts_with('M') && path.chars().all(allowed), "{path}");
    }
}

#[test]
fn a_tensor_takes_at_most_six_kilobytes() {
    let empty = page(&Report::new("", [])).len();
    let name =
        |i: usize| format!("model.decoder.layers.{i}.self_attention.query_projection.weight");
    let tensors: Vec<_> = (0..50)
        .map(|i| {
            let mut values = normal(256 * 96, i as u64);
            (0..40).for_each(|outlier| values[outlier * 601] *= 40.0);
            let scheme = ["per-channel-symmetric-int4", "per-block-affine-int2"][i % 2];
            let quantized = by_min_max(&[256, 96], &values, scheme);
            let report = TensorReport::new(name(i), &[256, 96], &values, Some(&quantized)).unwrap();
            report.note("rule 17 `model.decoder.layers.*.self_attention.*.weight`")
        })
        .collect();
    let each = (page(&Report::new("", tensors)).len() - empty) / 50;
    assert!(each <= 6_000, "{each} bytes");
    assert!(empty <= 12_000, "{empty} bytes");
}

#[test]
fn the_same_report_is_the_same_page() {
    assert_eq!(page(&odd()), page(&odd()));
}

#[test]
fn totals_are_the_sums_of_all_tensors() {
    let float = TensorReport::new("norm", &[3], &[1.0; 3], None).unwrap();
    let half = TensorReport::new("half", &[50], &[1.0; 50], None).unwrap().bytes_before(100);
    let weight = tensor("fc.weight", &[32, 32], 1, "per-channel-symmetric-int8");
    let text = text(&page(&Report::new("model", [float, half, weight])));
    // 12 + 100 + 4096 bytes before; 12 + 100 + 1024 + 4 * 32 after.
    for fact in [
        "Before 4.21\u{A0}kB",
        "After 1.26\u{A0}kB 30.0\u{A0}% of before",
        "Smaller by 3.33×",
        "Tensors 3 1 quantized, 2 float",
        "fc.weight 32 × 32 · per-channel-symmetric-int8",
        "half 50 · float",
        "100\u{A0}B → 100\u{A0}B",
    ] {
        let fact = fact.replace('\u{A0}', " ");
        assert!(text.replace('\u{A0}', " ").contains(&fact), "{fact} in {text}");
    }
}

#[test]
fn outliers_are_counted_and_the_furthest_are_named() {
    let mut values = normal(100 * 64, 9);
    values[64 * 17 + 3] = -9.0;
    for i in 0..5 {
        values[64 * 50 + i] = 3.0 + i as f32;
    }
    let quantized = by_min_max(&[100, 64], &values, "per-channel-symmetric-int8");
    let report = TensorReport::new("w", &[100, 64], &values, Some(&quantized)).unwrap();
    let text = text(&page(&Report::new("", [report])));
    assert!(text.contains("beyond 6 standard deviations: 6, furthest first"), "{text}");
    let of = |from: &str| text.split(from).nth(1).unwrap().to_owned();
    let named = of("furthest first");
    let named: Vec<_> = named.split_whitespace().skip(4).take(16).collect();
    let column = |i: usize| -> Vec<_> { named.iter().skip(i).step_by(4).copied().collect() };
    assert_eq!(column(0), ["−9.00", "7.00", "6.00", "5.00"]);
    assert_eq!(column(2), ["17", "50", "50", "50"]);
    assert_eq!(column(3), ["1091", "3204", "3203", "3202"]);
    assert!(text.contains("100 channels of axis 0, the worst of up to 2 in each bar"), "{text}");
}

#[test]
fn clipped_values_are_counted() {
    let mut values = vec![0.5; 1000];
    values[3] = 100.0;
    values[9] = -100.0;
    let half = PercentileCalibration::new(99.0).unwrap();
    let quantized =
        quantize_values(&[10, 100], &values, scheme("per-tensor-symmetric-int8"), &half).unwrap();
    let report = TensorReport::new("w", &[10, 100], &values, Some(&quantized)).unwrap();
    let text = text(&page(&Report::new("", [report])));
    assert!(
        text.contains("Values clipped 2 (0.20\u{A0}%)")
            || text.contains("Values clipped 2 (0.20 %)"),
        "{text}"
    );
    let exact = tensor("w", &[4, 4], 1, "per-tensor-affine-int8");
    let exact = page(&Report::new("", [exact]));
    assert!(exact.contains("<dt>Values clipped</dt><dd>none</dd>"));
}

#[test]
fn non_finite_values_are_counted_and_ignored() {
    let values = [f32::NAN, 1.0, f32::NEG_INFINITY, 3.0];
    let report = TensorReport::new("w", &[4], &values, None).unwrap();
    let page = page(&Report::new("", [report]));
    assert!(page.contains("<dt>NaN or infinite</dt><dd><span class=\"bad\">2</span></dd>"));
    assert!(page.contains("<dt>Mean</dt><dd>2.00</dd>"));
    assert!(page.contains("aria-label=\"values from 1.00 to 3.00\""));
}

#[test]
fn without_float_values_the_error_is_unknown() {
    let values = normal(64, 1);
    let quantized = by_min_max(&[8, 8], &values, "per-channel-symmetric-int2");
    let report = TensorReport::of_quantized("w", &quantized);
    assert_eq!((report.sqnr_db(), report.max_abs_error()), (None, None));
    let text = text(&page(&Report::new("", [report])));
    assert!(text.contains("Error unknown: the float values are not available"), "{text}");
    assert!(text.contains("no errors are known"), "{text}");
}

#[test]
fn rejects_values_and_tensors_of_other_shapes() {
    let error = TensorReport::new("w", &[2, 3], &[0.0; 5], None).unwrap_err();
    assert_eq!(error, TensorError::Len { shape: vec![2, 3], expected: 6, found: 5 });
    let quantized = by_min_max(&[3, 2], &[0.0; 6], "per-tensor-affine-int8");
    let error = TensorReport::new("w", &[2, 3], &[0.0; 6], Some(&quantized)).unwrap_err();
    assert!(matches!(error, TensorError::Shape { found, .. } if found == [3, 2]));
}

#[test]
fn errors_of_the_writer_are_returned() {
    struct Full(usize);
    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.0.min(bytes.len());
            self.0 -= room;
            if room == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(room) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let report = odd();
    for room in (0..page(&report).len()).step_by(97) {
        assert_eq!(report.write_html(Full(room)).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
