//! Items of every kind: the expansion of each is Rust, and never a panic.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use quote::ToTokens;
use syn::{Expr, Item, ItemConst, Stmt};

use super::expand;

/// Whether the expansion of an item has an impl, and whether it has errors.
fn outline(item: &str) -> (bool, bool) {
    let (mut impls, mut errors) = (0, 0);
    for written in expand(item).items {
        match written {
            Item::Const(block) => impls += count_impls(&block),
            Item::Macro(_) => errors += 1,
            other => panic!("{item}: {}", other.to_token_stream()),
        }
    }
    assert!(impls <= 1, "{item}");
    (impls == 1, errors > 0)
}

fn count_impls(block: &ItemConst) -> usize {
    let Expr::Block(block) = &*block.expr else { return 0 };
    let impls = block.block.stmts.iter().filter(|s| matches!(s, Stmt::Item(Item::Impl(_))));
    impls.count()
}

const ACCEPTED: &[&str] = &[
    "struct A;",
    "struct A();",
    "struct A {}",
    "struct A<T>;",
    "struct A<>;",
    "struct A where;",
    "struct A<T> where T: Copy;",
    "struct A<T>(T) where T: Copy;",
    "struct A<T> where T: Copy, { a: T }",
    "struct A<T> where { a: T }",
    "struct A<T,>(T,);",
    "struct A<'a, 'b: 'a, T: 'a + ?Sized, const N: usize>(&'a T, [&'b u8; N]);",
    "struct A<const N: usize = { 1 + 2 }>([u8; N]);",
    "struct A<const C: char = 'c', const B: bool = true>;",
    "struct A<T = Vec<u8>>(T);",
    "struct A([u8; { const N: usize = 3; N }]);",
    "struct A([u8; if true { 1 } else { 2 }]);",
    "struct A([u8; match 1 { _ => 1 }], [u8; || 1]);",
    "struct A(vec_of!(u8), vec_of![T]);",
    "struct A<T>(vec_of!(T));",
    "struct A<'T, T>(&'T u8, T);",
    "struct A<T>(<T as Iterator>::Item, T::Item, Vec<<T as Iterator>::Item>);",
    "struct A<T>(dyn Iterator<Item = T> + Send);",
    "struct A<T>(Box<dyn for<'a> Fn(&'a T) -> Box<dyn Fn() + 'a>>);",
    "struct A<T>(for<'a> fn(&'a T) -> &'a T, unsafe extern \"C\" fn(...) -> !);",
    "struct A<T>((), (T,), ((T, T), T), [[T; 2]; 2], *const T, &'static mut [T]);",
    "struct A<T>(Option<(T, Box<A<T>>)>, Vec<Self>, [crate::A<T>; 2]);",
    "struct A(!);",
    "struct r#struct { r#fn: r#type, r#match: r#dyn<r#async> }",
    "struct A<r#type>(r#type);",
    "struct __Walker { __walker: u8, __0: u8, __quant: u8, __M: u8, self_: u8, mapper: u8 }",
    "struct été { 数: u8 }",
    "pub(in crate::a) struct A { pub(crate) a: u8, pub(self) b: u8, crate_: u8 }",
    "#[doc = \"x\"] #[repr(C, packed(2))] #[cfg_attr(a, b)] struct A { #[doc(hidden)] a: u8 }",
    "enum A {}",
    "enum A { B }",
    "enum A { B {}, C(), D }",
    "#[repr(u8)] enum A { B = 1, C(u8) = { 2 }, D { e: u8 } = if true { 3 } else { 4 } }",
    "enum A<T> where T: Copy { B(T), C { c: Box<A<T>> } }",
    "enum Option { None, Some(Box<Option>) }",
    "enum r#enum { r#Self_ { r#in: u8 } }",
    "#[module()] struct A { #[module()] #[module()] a: u8 }",
    "#[module(crate = crate)] struct A;",
    "#[module(crate = \"::a::b\",)] struct A;",
    "#[module(crate = ::a::b)] struct A;",
    "#[module(crate = super::a)] struct A;",
    "struct A { #[module(skip)] a: f32, #[module(rename = \"a\")] b: u8 }",
    "struct A(#[module(rename = \"1\")] u8, #[module(rename = \"0\")] u8);",
    "struct A { #[module(rename = \"a.b.c\", keep,)] a: u8 }",
    "struct A { #[module(alias = \"b.c\", keep,)] a: u8 }",
    "struct A { #[module(rename = r#\"a \"quoted\" {name}\"#)] a: u8 }",
    "struct A { #[module(rename = \"\\u{1F600}\\0\\n\")] a: u8 }",
    "struct A { #[module(scheme = { const A: B = B; A })] a: u8 }",
    "struct A { #[module(scheme = if A { B::<C, D>::E } else { f(|x| x, [1, 2]) })] a: u8 }",
    "struct A { #[module(scheme = a!(b, c), quantize)] a: u8 }",
    "struct A { #[module(scheme = -1)] a: u8 }",
    "enum A { #[module(rename = \"b\")] B, #[module(rename = \"c.d\")] C { d: u8 } }",
];

const REFUSED: &[&str] = &[
    "union A { a: u8 }",
    "union A<T: Copy> where T: Copy { a: T, #[module(skipp)] b: f32 }",
    "#[module] struct A;",
    "#[module = 1] struct A;",
    "#[module{skip}] struct A;",
    "#[module[crate = a]] struct A { #[module] a: u8 }",
    "#[module(,)] struct A;",
    "#[module(crate)] struct A<T>(T);",
    "#[module(crate =)] struct A;",
    "#[module(crate = a::<b>)] struct A;",
    "#[module(crate = <a>::b)] struct A;",
    "#[module(crate = \"\")] struct A;",
    "#[module(crate = \"a b\")] struct A;",
    "#[module(crate = \"a\\0\")] struct A;",
    "#[module(crate = a, crate = b)] struct A;",
    "#[module(module)] struct A;",
    "struct A { #[module(skip, skip)] a: f32 }",
    "struct A { #[module(1)] a: u8 }",
    "struct A { #[module('a)] a: u8 }",
    "struct A { #[module(..)] a: u8 }",
    "struct A { #[module(skip keep)] a: u8 }",
    "struct A { #[module((skip))] a: u8 }",
    "struct A { #[module(r#skip)] a: u8 }",
    "struct A { #[module(_)] a: u8 }",
    "struct A { #[module(rename == \"b\")] a: u8 }",
    "struct A { #[module(rename = \"b\" + \"c\")] a: u8 }",
    "struct A { #[module(rename = concat!(\"b\"))] a: u8 }",
    "struct A { #[module(rename = c\"b\")] a: u8 }",
    "struct A { #[module(rename = .)] a: u8 }",
    "struct A { #[module(scheme = ,)] a: u8 }",
    "struct A { #[module(scheme = =)] a: u8 }",
    "struct A { #[module(scheme = let)] a: u8 }",
    "struct A { #[module(rename = \"\\u{2e}\")] a: u8 }",
    "enum A { B, #[module(rename = \"B\")] C }",
    "enum A { #[module(skip)] B(f32) }",
    "enum A { B { #[module(rename = \"c\")] b: u8, c: u8 } }",
];

#[test]
fn accepted_items_expand_to_one_impl() {
    for item in ACCEPTED {
        assert_eq!(outline(item), (true, false), "{item}");
    }
}

#[test]
fn refused_items_expand_to_errors() {
    for item in REFUSED {
        assert!(outline(item).1, "{item}");
    }
}

#[test]
fn an_impl_stands_beside_errors_unless_its_crate_is_unknown() {
    assert_eq!(outline("#[module(crate = 1)] struct A;"), (false, true));
    assert_eq!(outline("#[module(skip)] struct A;"), (true, true));
    assert_eq!(outline("union A { a: u8 }"), (true, true));
}

#[test]
fn what_is_no_item_is_an_error() {
    for tokens in ["", "fn a() {}", "struct", "struct A", "struct A { a }", "enum A { B = }"] {
        assert_eq!(outline(tokens), (false, true), "{tokens}");
    }
}

const ARGUMENTS: &[&str] = &[
    "skip",
    "keep",
    "quantize",
    "rename = \"a\"",
    "rename = \"\"",
    "rename",
    "scheme = \"per-tensor-symmetric-int8\"",
    "scheme = A",
    "scheme(A)",
    "crate = a",
    "crate = 1",
    "unknown",
    "unknown = 1",
    "\"skip\"",
    "",
];

const TYPES: &[&str] = &[
    "u8",
    "T",
    "Param<T>",
    "Vec<Item<'a, T, N>>",
    "Option<(T, Box<Self>)>",
    "[T; N]",
    "&'a str",
    "m!(T)",
    "dyn Tr<T>",
    "(T,)",
    "T::A",
    "!",
];

fn attributes() -> impl Strategy<Value = String> {
    subsequence(ARGUMENTS.to_vec(), 0..4).prop_map(|arguments| match arguments.len() {
        0 => String::new(),
        1 => format!("#[module({})]", arguments[0]),
        _ => format!("#[module({})] #[module({})]", arguments[0], arguments[1..].join(", ")),
    })
}

fn fields() -> impl Strategy<Value = String> {
    let field = (attributes(), select(TYPES));
    (prop::collection::vec(field, 0..5), any::<bool>()).prop_map(|(fields, named)| {
        let field = |(i, (attributes, ty)): (usize, &(String, &str))| {
            if named { format!("{attributes} f{i}: {ty}") } else { format!("{attributes} {ty}") }
        };
        let fields: Vec<_> = fields.iter().enumerate().map(field).collect();
        let fields = fields.join(", ");
        if named { format!("{{ {fields} }}") } else { format!("({fields})") }
    })
}

fn item() -> impl Strategy<Value = String> {
    const GENERICS: &str = "<'a, T: Copy, const N: usize>";
    let record = (attributes(), fields()).prop_map(|(attributes, fields)| {
        let end = if fields.starts_with('(') { ";" } else { "" };
        format!("{attributes} struct Item{GENERICS} {fields}{end}")
    });
    let variants = prop::collection::vec((attributes(), fields()), 0..4);
    let choice = (attributes(), variants).prop_map(|(attributes, variants)| {
        let variants = variants.iter().enumerate();
        let variants =
            variants.map(|(i, (attributes, fields))| format!("{attributes} V{i}{fields}"));
        let variants = variants.collect::<Vec<_>>().join(", ");
        format!("{attributes} enum Item{GENERICS} {{ {variants} }}")
    });
    prop_oneof![record, choice]
}

proptest! {
    #[test]
    fn an_item_expands_to_an_impl_or_an_error(item in item()) {
        let (module, mistakes) = outline(&item);
        prop_assert!(module || mistakes);
    }
}
