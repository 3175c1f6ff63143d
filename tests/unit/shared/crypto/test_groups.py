"""The groups' constants and the checks on public values."""

from __future__ import annotations

import inspect
from math import prod
from types import ModuleType

import pytest
from Crypto.Math.Numbers import Integer
from Crypto.Math.Primality import PROBABLY_PRIME, test_probable_prime
from Crypto.PublicKey import ElGamal
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.crypto import elgamal, groups, kem, signatures, suites
from shared.crypto.groups import (
    ELEMENT_SIZE,
    G,
    P,
    Q,
    check_element,
    decode_element,
    encode_element,
    load_p256_public,
    public_power_of_generator,
)
from shared.errors import InvalidElement, LocalError

# The library names its function like a test; pytest would collect it.
is_probable_prime = test_probable_prime
del test_probable_prime

P256_FIELD = 2**256 - 2**224 + 2**192 + 2**96 - 1
P256_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


def euler_times_power_of_two(bits: int) -> int:
    """Return floor(e · 2^bits) from the series for e, with 64 bits to spare."""
    term = total = 1 << bits + 64
    divisor = 1
    while term:
        term //= divisor
        total += term
        divisor += 1
    return total >> 64


def test_the_prime_is_the_one_of_rfc_7919() -> None:
    """Appendix A.2: p = 2^3072 − 2^3008 + (floor(2^2942 · e) + 2625351) · 2^64 − 1."""
    assert 2**3072 - 2**3008 + (euler_times_power_of_two(2942) + 2625351) * 2**64 - 1 == P


def test_p_is_a_safe_prime() -> None:
    """p and q = (p − 1)/2 are prime."""
    assert is_probable_prime(Integer(P)) == PROBABLY_PRIME
    assert is_probable_prime(Integer(Q)) == PROBABLY_PRIME
    assert P == 2 * Q + 1


def test_two_generates_the_subgroup_of_order_q() -> None:
    """2^q = 1, 2 is not 1, and q is prime: so the order of 2 is q."""
    assert pow(G, Q, P) == 1
    assert G == 2


@pytest.mark.parametrize("element", [2, 4, pow(2, 12345, P), pow(3, 2, P), Q + 1])
def test_members_of_the_subgroup_are_accepted(element: int) -> None:
    """Squares other than 1; (p + 1)/2 is the inverse of 2."""
    check_element(element)

    assert decode_element(encode_element(element)) == element


@pytest.mark.parametrize(
    "element",
    [-1, 0, 1, P - 1, P, P + 1, P + 4, 2**3072 - 1, 2**4000],
    ids=["minus-1", "0", "1", "p-1", "p", "p+1", "p+4", "all-ones", "huge"],
)
def test_values_out_of_range_are_refused(element: int) -> None:
    """0, 1 and p − 1 make secrets predictable; values from p on are second encodings."""
    with pytest.raises(InvalidElement, match="not between 2 and p − 2"):
        check_element(element)


@pytest.mark.parametrize(
    "element", [P - 2, P - 4, Q, P - pow(2, 12345, P)], ids=["p-2", "p-4", "q", "-2^12345"]
)
def test_values_outside_the_subgroup_are_refused(element: int) -> None:
    """Non-residues have an even order: a power of theirs tells whether the exponent is even."""
    assert pow(element, Q, P) == P - 1

    with pytest.raises(InvalidElement, match="outside the subgroup"):
        check_element(element)


def test_the_jacobi_symbol_decides_as_the_power_does() -> None:
    """The cheap check agrees with y^q on residues and non-residues alike."""
    for element in range(2, 8):
        member = pow(element, Q, P) == 1
        try:
            check_element(element)
            accepted = True
        except InvalidElement:
            accepted = False

        assert accepted == member


@pytest.mark.parametrize("exponent", [0, 1, 63, 64, 0x1234567890ABCDEF << 100, 2**672 - 1])
def test_the_generators_table_gives_what_the_power_does(exponent: int) -> None:
    """Digit by digit, from the first to the last place."""
    assert public_power_of_generator(exponent) == pow(G, exponent, P)


def test_an_exponent_beyond_the_table_is_our_own_mistake() -> None:
    """It would silently lose its upper bits."""
    with pytest.raises(LocalError, match="672 bits"):
        public_power_of_generator(2**672)


@pytest.mark.parametrize("size", [0, ELEMENT_SIZE - 1, ELEMENT_SIZE + 1])
def test_elements_have_one_length(size: int) -> None:
    """A shorter or longer encoding of a good value is still refused."""
    with pytest.raises(InvalidElement, match=f"384 bytes, not {size}"):
        decode_element((4).to_bytes(size, "big") if size else b"")


def point(x: int, y: int, prefix: int = 4) -> bytes:
    """Encode coordinates without a check."""
    return bytes([prefix]) + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def generator_coordinates() -> tuple[int, int]:
    """Return P-256's base point, from the library."""
    numbers = ec.derive_private_key(1, ec.SECP256R1()).public_key().public_numbers()
    return numbers.x, numbers.y


def test_an_uncompressed_point_is_accepted() -> None:
    """And means the point that was encoded."""
    x, y = generator_coordinates()

    assert load_p256_public(point(x, y)).public_numbers() == ec.EllipticCurvePublicNumbers(
        x, y, ec.SECP256R1()
    )


def test_every_other_encoding_of_a_point_is_refused() -> None:
    """Infinity, compressed, hybrid, wrong prefix, wrong length: one encoding only."""
    x, y = generator_coordinates()
    compressed = (
        ec.derive_private_key(1, ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    )

    for data in [
        b"",
        b"\0",
        bytes(65),
        compressed,
        compressed + bytes(32),
        point(x, y, prefix=6 + y % 2),
        point(x, y, prefix=5),
        point(x, y)[:-1],
        point(x, y) + b"\0",
    ]:
        with pytest.raises(InvalidElement, match="65 bytes that start with 04"):
            load_p256_public(data)


def test_points_off_the_curve_are_refused() -> None:
    """An invalid-curve attack would read a private key from small groups."""
    x, y = generator_coordinates()

    for data in [point(x, y ^ 1), point(x ^ 1, y), point(0, 0), point(y, x), point(P256_FIELD - 1, 0)]:
        with pytest.raises(InvalidElement, match="not on the curve"):
            load_p256_public(data)


def test_coordinates_from_the_field_prime_on_are_refused() -> None:
    """A point with a small x, written with x + field prime, would be a second encoding of the same point."""
    x, y = small_point()
    load_p256_public(point(x, y))

    with pytest.raises(InvalidElement, match="not on the curve"):
        load_p256_public(point(x + P256_FIELD, y))
    with pytest.raises(InvalidElement, match="not on the curve"):
        load_p256_public(point(2**256 - 1, y))


def small_point() -> tuple[int, int]:
    """Find the point of P-256 with the smallest x from 0 on (the field prime is 3 mod 4, so roots are powers)."""
    for x in range(100):
        square = (x**3 - 3 * x + P256_B) % P256_FIELD
        root = pow(square, (P256_FIELD + 1) // 4, P256_FIELD)
        if root * root % P256_FIELD == square:
            return x, root
    raise AssertionError("half of all x have a point")


@pytest.mark.parametrize(
    "module", [groups, elgamal, kem, signatures, suites], ids=lambda module: module.__name__
)
def test_no_function_takes_group_parameters(module: ModuleType) -> None:
    """A peer's modulus, generator, order or curve has no way in."""
    forbidden = {
        "p",
        "q",
        "g",
        "n",
        "modulus",
        "generator",
        "order",
        "curve",
        "group",
        "params",
        "parameters",
        "prime",
    }
    functions = [
        member
        for owner in [module, *[cls for _, cls in inspect.getmembers(module, inspect.isclass)]]
        for _, member in inspect.getmembers(owner, inspect.isfunction)
        if member.__module__.startswith("shared.crypto")
    ]

    assert functions
    for function in functions:
        assert not forbidden & set(inspect.signature(function).parameters), function.__qualname__


def smooth_prime(bits: int) -> tuple[int, list[int]]:
    """Return a prime p of at least `bits` bits where p − 1 is a product of small distinct primes, and those primes."""
    primes = [n for n in range(2, 1000) if all(n % d for d in range(2, int(n**0.5) + 1))]
    factors = primes[:1]
    for candidate in primes[1:]:
        factors.append(candidate)
        if prod(factors).bit_length() > bits:
            break
    for extra in primes[len(factors) :]:
        for left_out in factors[1:]:
            chosen = [*[factor for factor in factors if factor != left_out], extra]
            if is_probable_prime(Integer(prod(chosen) + 1)) == PROBABLY_PRIME:
                return prod(chosen) + 1, chosen
    raise AssertionError("no smooth prime among the candidates")


def discrete_logarithm(y: int, g: int, p: int, factors: list[int]) -> int:
    """Pohlig–Hellman for p − 1 with small distinct prime factors."""
    x = 0
    for factor in factors:
        cofactor = (p - 1) // factor
        base, target, power, digit = pow(g, cofactor, p), pow(y, cofactor, p), 1, 0
        while power != target:
            power, digit = power * base % p, digit + 1
        x += digit * cofactor * pow(cofactor, -1, factor)
    return x % (p - 1)


def test_a_peers_smooth_prime_would_give_the_private_key_away() -> None:
    """Positive control: the library's key container accepts such a prime, and the logarithm takes a moment.

    This is what adopting a peer's parameters would mean; here they are constants (see the test above).
    """
    p, factors = smooth_prime(512)
    g = next(g for g in range(2, 2000) if all(pow(g, (p - 1) // factor, p) != 1 for factor in factors))
    x = pow(3, 400, p)
    y = pow(g, x, p)

    accepted = ElGamal.construct((p, g, y))

    assert int(accepted.p) == p
    assert discrete_logarithm(y, g, p, factors) == x


def test_a_composite_modulus_is_refused_by_the_container_and_has_no_way_into_ours() -> None:
    """The product of two primes is no group of ours: its elements have another length or another meaning."""
    composite = (2**521 - 1) * (2**607 - 1)

    with pytest.raises(ValueError, match="Invalid ElGamal key components"):
        ElGamal.construct((composite, 4, 16))
    with pytest.raises(InvalidElement, match="384 bytes"):
        decode_element(pow(4, 99, composite).to_bytes(141, "big"))


def test_moduli_are_constants() -> None:
    """The names are Final for the type checker, and the values are what the tests above proved."""
    assert int(groups.MODULUS) == P
    assert int(groups.GENERATOR) == G
