"""The tree: Certificate Transparency's known vectors, and a naive implementation beside ours."""

import hashlib
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.vault import tree

# The reference leaves and roots of certificate-transparency's merkle tree tests.
LEAVES = [bytes.fromhex(x) for x in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# (leaf, size, audit path) and (old, new, path), from the same tests
PATHS = [
    (0, 8, ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"]),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
]  # fmt: skip
CONSISTENCY = [
    (1, 8, ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"]),
    (2, 5, ["5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"]),
]  # fmt: skip


def h(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 2.1, word for word."""
    if not leaves:
        return h(b"")
    if len(leaves) == 1:
        return h(b"\0" + leaves[0])
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return h(b"\1" + naive_root(leaves[:k]) + naive_root(leaves[k:]))


def nodes_of(leaves: list[bytes]) -> tree.Nodes:
    return lambda height, index: naive_root(leaves[index << height : (index + 1) << height])


def grow(leaves: list[bytes]) -> tree.CompactRange:
    compact = tree.CompactRange()
    for leaf in leaves:
        compact, _ = compact.append(tree.leaf_hash(leaf))
    return compact


def test_known_roots():
    for size, root in enumerate(ROOTS, 1):
        assert grow(LEAVES[:size]).root().hex() == root
    assert tree.CompactRange().root() == h(b"")


def test_known_paths():
    for index, size, path in PATHS:
        proof = tree.inclusion_proof(index, size, nodes_of(LEAVES[:size]))
        assert [p.hex() for p in proof] == path
    for old, new, path in CONSISTENCY:
        proof = tree.consistency_proof(old, new, nodes_of(LEAVES))
        assert [p.hex() for p in proof] == path


def check_size(size: int, module) -> None:
    """Every inclusion and consistency proof of one size verifies, and its neighbours do not."""
    leaves = [bytes([i]) * 3 for i in range(size)]
    root, nodes = naive_root(leaves), nodes_of(leaves)
    assert grow(leaves).root() == root
    for index in range(size):
        proof = module.inclusion_proof(index, size, nodes)
        leaf = tree.leaf_hash(leaves[index])
        assert module.verify_inclusion(leaf, index, size, proof, root)
        for wrong in (index - 1, index + 1):
            assert not module.verify_inclusion(leaf, wrong, size, proof, root)
        assert not module.verify_inclusion(leaf, index, size, (*proof, root), root)
        assert not module.verify_inclusion(leaf, index, size, proof[:-1], root) or size == 1
    for old in range(size + 1):
        proof = module.consistency_proof(old, size, nodes)
        old_root = naive_root(leaves[:old])
        assert module.verify_consistency(old, size, old_root, root, proof)
        if old:
            assert not module.verify_consistency(old, size, h(b"x"), root, proof)
            assert not module.verify_consistency(old, size, old_root, h(b"x"), proof)
        assert not module.verify_consistency(old, size, old_root, root, (*proof, root))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 33])
def test_all_proofs_of_a_size(size):
    check_size(size, tree)


def test_planted_bugs_are_found():
    def no_end_check(leaf, index, size, proof, root):  # forgets `sn == 0`
        fn, sn, r = index, size - 1, leaf
        for p in proof:
            if fn & 1 or fn == sn:
                r = tree.node_hash(p, r)
                while not fn & 1 and fn:
                    fn, sn = fn >> 1, sn >> 1
            else:
                r = tree.node_hash(r, p)
            fn, sn = fn >> 1, sn >> 1
        return r == root

    def always(*_):
        return True

    def short(old, new, nodes):
        return tree.consistency_proof(old, new, nodes)[:-1]

    good = dict(vars(tree))
    for bug in (
        {"verify_inclusion": always}, {"verify_consistency": always},
        {"consistency_proof": short}, {"inclusion_proof": lambda i, n, f: ()},
    ):  # fmt: skip
        with pytest.raises(AssertionError):
            check_size(13, SimpleNamespace(**{**good, **bug}))
    assert no_end_check(tree.leaf_hash(b"a"), 0, 1, (), tree.leaf_hash(b"a"))


@given(st.integers(1, 3000), st.integers(0, 3000))
@settings(max_examples=40, deadline=None)
def test_edge_matches_compact_range(size, other):
    leaves = [i.to_bytes(2, "big") for i in range(size)]
    compact, done = tree.CompactRange(), {}
    for leaf in leaves:
        compact, new = compact.append(tree.leaf_hash(leaf))
        done.update({(s.height, s.position): s.hash for s in new})
    assert tuple(done[place] for place in tree.edge(size)) == compact.hashes
    # every subtree that a proof can ask for was completed once, on the way
    old = other % (size + 1)
    proof = tree.consistency_proof(old, size, lambda height, index: done[height, index])
    assert tree.verify_consistency(old, size, grow(leaves[:old]).root(), compact.root(), proof)


def test_subtrees_can_be_appended_whole():
    leaves = [bytes([i]) for i in range(13)]
    compact = tree.CompactRange()
    compact, _ = compact.append(naive_root(leaves[:8]), height=3)
    compact, _ = compact.append(naive_root(leaves[8:12]), height=2)
    compact, _ = compact.append(tree.leaf_hash(leaves[12]))
    assert compact == grow(leaves)
    with pytest.raises(ValueError, match="begins at leaf"):
        compact.append(b"x" * 32, height=1)


def test_impossible_proofs_are_misuse():
    with pytest.raises(ValueError, match="not in a tree"):
        tree.inclusion_proof(3, 3, nodes_of(LEAVES))
    with pytest.raises(ValueError, match="no consistency"):
        tree.consistency_proof(4, 3, nodes_of(LEAVES))
    assert not tree.verify_inclusion(b"", 3, 3, (), b"")
    assert not tree.verify_consistency(4, 3, b"", b"", ())
    assert not tree.verify_consistency(3, 4, b"", b"", ())
