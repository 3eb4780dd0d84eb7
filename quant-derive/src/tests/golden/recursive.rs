struct Tree<K, V: FloatTensor> {
    leaf: Param<V>,
    children: Vec<Tree<K, V>>,
    named: BTreeMap<String, (K, Box<Self>)>,
}
