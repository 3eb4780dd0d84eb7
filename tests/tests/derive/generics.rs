//! Generic modules, and the bounds that are added for them.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use quant::{FloatTensor, Module, Param};

use crate::{doubled, param, paths};

/// No module, no tensor, nothing.
struct Foreign;

#[test]
fn the_storage_of_a_parameter_is_bounded_by_its_struct_alone() {
    #[derive(Module, Clone, Debug, Default, PartialEq)]
    struct Dense<T: FloatTensor> {
        weight: Param<T>,
        bias: Option<Param<T>>,
    }
    let dense = Dense { weight: Param::new(vec![1.0f32, 2.0]), bias: None };
    assert_eq!(*doubled(dense).weight.value(), [2.0, 4.0]);
}

#[test]
fn a_parameter_in_the_place_of_a_module_has_to_be_one() {
    #[derive(Module)]
    struct Residual<L> {
        layer: L,
        others: Vec<(L, u8)>,
    }
    let residual = Residual { layer: param(1.0), others: vec![(param(1.0), 2)] };
    assert_eq!(paths(residual), ["layer", "others.0.0"]);
}

#[test]
fn a_phantom_or_skipped_parameter_may_be_anything() {
    #[derive(Module)]
    struct Marked<B, C> {
        value: Param<f32>,
        marker: PhantomData<(B, fn(C) -> C)>,
        #[module(skip)]
        cache: Option<C>,
    }
    let marked = Marked { value: param(1.0), marker: PhantomData::<(Foreign, _)>, cache: None };
    assert_eq!(paths::<Marked<Foreign, Foreign>>(marked), ["value"]);
}

#[test]
fn a_generic_unit_struct_asks_for_nothing() {
    #[derive(Module, Default)]
    struct Relu<T>(PhantomData<T>);
    #[derive(Module)]
    struct Size<const N: usize>;
    assert!(paths(Relu(PhantomData::<Foreign>)).is_empty());
    assert!(paths(Size::<3>).is_empty());
}

#[test]
fn bounds_defaults_and_where_clauses_are_kept() {
    trait Backend {
        type Layer: Module + Default;
        const NAME: &'static str;
    }
    struct Cpu;
    impl Backend for Cpu {
        type Layer = Option<Param<f32>>;
        const NAME: &'static str = "cpu";
    }
    #[derive(Module)]
    struct Net<'a, B: Backend, L = Param<f32>, const N: usize = 2>
    where
        L: Clone + 'a,
    {
        name: &'a str,
        layers: [L; N],
        own: B::Layer,
        marker: PhantomData<&'a B>,
    }
    impl<B: Backend> Net<'_, B> {
        fn new() -> Self {
            let layers = [param(1.0), param(2.0)];
            Net { name: B::NAME, layers, own: B::Layer::default(), marker: PhantomData }
        }
    }
    let net = Net { own: Some(param(3.0)), ..Net::<Cpu>::new() };
    assert_eq!(net.name, "cpu");
    assert_eq!(paths(net), ["layers.0", "layers.1", "own"]);
}

#[test]
fn a_where_clause_may_end_in_any_way() {
    #[derive(Module)]
    struct Comma<T>
    where
        T: Module,
    {
        inner: T,
    }
    #[rustfmt::skip]
    #[derive(Module)]
    struct NoComma<T>(T) where T: Module;
    #[rustfmt::skip]
    #[derive(Module)]
    struct Empty<T> where { inner: T }
    let model = Comma { inner: NoComma(Empty { inner: param(1.0) }) };
    assert_eq!(paths(model), ["inner.0.inner"]);
}

#[test]
fn a_generic_module_may_hold_itself() {
    #[derive(Module)]
    struct Tree<M> {
        leaf: M,
        children: Vec<Tree<M>>,
    }
    let leaf = |value| Tree { leaf: param(value), children: vec![] };
    let tree = Tree { leaf: param(0.0), children: vec![leaf(1.0), leaf(2.0)] };
    assert_eq!(paths(tree), ["leaf", "children.0.leaf", "children.1.leaf"]);
}

#[test]
fn a_generic_module_may_hold_itself_and_its_parameter_in_one_type() {
    #[derive(Module)]
    enum List<M> {
        Nil,
        Cons(Option<(M, Box<Self>)>),
    }
    let list = List::Cons(Some((param(1.0), Box::new(List::Nil))));
    assert_eq!(paths(list), ["Cons.0.0"]);

    #[derive(Module)]
    struct Trie<T: FloatTensor> {
        value: Option<Param<T>>,
        children: BTreeMap<String, Trie<T>>,
    }
    let leaf = Trie { value: Some(Param::new(vec![1.0])), children: BTreeMap::new() };
    let root = Trie { value: None, children: [("a".to_owned(), leaf)].into() };
    assert_eq!(paths(root), ["children.a.value"]);
}

#[test]
fn an_associated_type_has_to_be_a_module() {
    trait Has {
        type Layer;
    }
    #[derive(Module)]
    struct Holder<H: Has> {
        direct: H::Layer,
        nested: Vec<<H as Has>::Layer>,
    }
    impl Has for Foreign {
        type Layer = Param<f32>;
    }
    let holder = Holder::<Foreign> { direct: param(1.0), nested: vec![param(2.0)] };
    assert_eq!(paths(holder), ["direct", "nested.0"]);
}

#[test]
fn a_trait_object_is_a_module_as_a_parameter_too() {
    #[derive(Module)]
    struct Boxed<M: ?Sized> {
        inner: Box<M>,
    }
    let boxed = Boxed::<dyn Module> { inner: Box::new(param(1.0)) };
    assert_eq!(paths(boxed), ["inner"]);
}

#[test]
fn an_unsized_field_may_come_last() {
    #[derive(Module)]
    struct Tail<M: ?Sized> {
        head: Param<f32>,
        tail: M,
    }
    let tail: &Tail<[Param<f32>]> = &Tail { head: param(1.0), tail: [param(2.0), param(3.0)] };
    assert_eq!(tail.num_params(), 3);
}
