"""A full order as topsync publishes and stores it: `Trade` with its `OrderLine`s.

Names are the platform's (reference/top-api.md 5.2 and 5.4), types are what they should be: see
`schemas.types`. Lists lose the platform's double nesting (`orders.order` becomes `orders`). Whatever the
platform sends beyond these fields, and an optional field that has a shape of its own, is carried
unchanged under `platform_fields`, so nothing is lost when the platform changes its mind.

Receiver fields are masked by the platform and stored as received; they never go into a log or a metric.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Self

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from schemas.types import Instant, Money, PlatformId

RECEIVER_FIELDS = frozenset(
    {
        "receiver_name",
        "receiver_mobile",
        "receiver_phone",
        "receiver_address",
        "receiver_state",
        "receiver_city",
        "receiver_district",
        "receiver_town",
        "receiver_zip",
        "receiver_country",
        "oaid",
    }
)
"""Left out of the content hash: masking and oaid change without a change of the order (5.7)."""

CONTENT_HASH_BYTES = 16


class UnreadableTradeError(ValueError):
    """A trade lacks what every trade must have. The text names fields and problems, never values."""


def _list_of(item: str) -> BeforeValidator:
    """The platform's `{"order": [...]}` flattened; absent, null, {} and a lone object are accepted (1.6)."""

    def flatten(value: object) -> object:
        if value is None:
            return []
        if isinstance(value, Mapping):
            value = value.get(item, [])
        return value if isinstance(value, list) else [value]

    return BeforeValidator(flatten)


class _PlatformObject(BaseModel):
    """A platform object: known fields typed, everything else under `platform_fields`."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    platform_fields: dict[str, object] = Field(default_factory=dict)
    """What the platform sent beyond the fields above, unchanged, keys sorted."""

    @model_validator(mode="wrap")
    @classmethod
    def _keep_what_is_not_understood(cls, data: object, read: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, Mapping):
            return read(data)
        known, aside = _split(data, cls.model_fields)
        try:
            return read({**known, "platform_fields": aside} if aside else known)
        except ValidationError as error:
            odd = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}
            if not odd or any(name not in cls._optional_fields() for name in odd):
                raise
        # An optional field in a shape of its own: keep its value without claiming to understand it.
        aside = dict(sorted({**aside, **{name: known.pop(name) for name in odd}}.items()))
        return read({**known, "platform_fields": aside})

    @classmethod
    def _optional_fields(cls) -> set[str]:
        # Without its lines an order is not complete, whatever shape they came in.
        return {name for name, field in cls.model_fields.items() if not field.is_required()} - {"orders"}


def _split(
    data: Mapping[str, object], fields: Mapping[str, object]
) -> tuple[dict[str, object], dict[str, object]]:
    """Known fields, and the sorted rest; a null is the same as an absent field."""
    known: dict[str, object] = {}
    rest: dict[str, object] = {}
    for name, value in data.items():
        if value is not None:
            (known if name in fields else rest)[name] = value
    kept = known.pop("platform_fields", None)
    if isinstance(kept, Mapping):
        rest.update(kept)
    return known, dict(sorted(rest.items()))


class OrderLine(_PlatformObject):
    """One line of a trade (the platform calls it an order). `oid` equals `tid` where there is only one."""

    oid: PlatformId
    status: str | None = None
    refund_status: str | None = None
    refund_id: PlatformId | None = None
    num_iid: PlatformId | None = None
    sku_id: PlatformId | None = None
    sku_properties_name: str | None = None
    outer_iid: str | None = None
    outer_sku_id: str | None = None
    title: str | None = None
    num: int | None = None
    price: Money | None = None
    total_fee: Money | None = None
    payment: Money | None = None
    discount_fee: Money | None = None
    adjust_fee: Money | None = None
    part_mjz_discount: Money | None = None
    divide_order_fee: Money | None = None
    """What the line really cost after sharing out the trade's discounts: the figure for accounts."""
    consign_time: Instant | None = None
    end_time: Instant | None = None
    logistics_company: str | None = None
    invoice_no: str | None = None
    is_oversold: bool | None = None
    seller_type: str | None = None


class Trade(_PlatformObject):
    """One order, complete, as `taobao.trade.fullinfo.get` and the bulk export give it."""

    tid: PlatformId
    type: str | None = None
    status: str
    created: Instant
    modified: Instant
    """Moves with every change of the order; whole seconds, so two changes can share one value."""
    pay_time: Instant | None = None
    consign_time: Instant | None = None
    end_time: Instant | None = None
    timeout_action_time: Instant | None = None
    seller_nick: str | None = None
    buyer_nick: str | None = None
    buyer_open_uid: str | None = None
    title: str | None = None
    """The shop's name."""
    payment: Money | None = None
    total_fee: Money | None = None
    discount_fee: Money | None = None
    adjust_fee: Money | None = None
    post_fee: Money | None = None
    received_payment: Money | None = None
    available_confirm_fee: Money | None = None
    commission_fee: Money | None = None
    cod_fee: Money | None = None
    step_trade_status: str | None = None
    step_paid_fee: Money | None = None
    num: int | None = None
    num_iid: PlatformId | None = None
    price: Money | None = None
    shipping_type: str | None = None
    buyer_message: str | None = None
    seller_memo: str | None = None
    seller_flag: int | None = None
    is_part_consign: bool | None = None
    receiver_name: str | None = None
    receiver_mobile: str | None = None
    receiver_phone: str | None = None
    receiver_address: str | None = None
    receiver_state: str | None = None
    receiver_city: str | None = None
    receiver_district: str | None = None
    receiver_town: str | None = None
    receiver_zip: str | None = None
    receiver_country: str | None = None
    oaid: str | None = None
    orders: Annotated[list[OrderLine], _list_of("order")] = Field(default_factory=list)
    promotion_details: Annotated[list[dict[str, object]], _list_of("promotion_detail")] = Field(
        default_factory=list
    )
    service_orders: Annotated[list[dict[str, object]], _list_of("service_order")] = Field(
        default_factory=list
    )

    @classmethod
    def from_platform(cls, raw: Mapping[str, object]) -> Self:
        """Read a platform trade; an optional field with a shape of its own is kept as it came.

        Raises:
            UnreadableTradeError: `tid`, `status`, `created` or `modified` is missing or unreadable, or a
                line has no `oid`.
        """
        try:
            return cls.model_validate(_storable(raw))
        except ValidationError as error:
            problems = (
                f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors(include_input=False)
            )
            raise UnreadableTradeError("unreadable trade: " + "; ".join(problems)) from None

    @classmethod
    def from_wire(cls, value: bytes | str) -> Self:
        """Read a record of the topic `orders` back."""
        return cls.model_validate_json(value)

    def to_wire(self) -> str:
        """The JSON value of the topic and of the table; absent fields are left out."""
        return self.model_dump_json(exclude_none=True)

    def content_hash(self) -> bytes:
        """Digest of the order's content without receiver fields and oaid: equal means nothing changed."""
        left_out: dict[str, bool | set[str]] = dict.fromkeys(RECEIVER_FIELDS, True)
        left_out["platform_fields"] = set(RECEIVER_FIELDS)  # those in a shape of their own
        content = self.model_dump(mode="json", exclude=left_out, exclude_none=True)
        # Sorted, because PostgreSQL's jsonb keeps no order of keys and the platform promises none.
        return hashlib.blake2b(
            orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=CONTENT_HASH_BYTES
        ).digest()


def _storable(value: object) -> object:
    """The value as UTF-8, JSON and PostgreSQL can hold it.

    NUL and lone surrogates become U+FFFD; an integer beyond 64 bits becomes text, or readers would lose its
    digits.
    """
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, str):
        if "\x00" in value:
            value = value.replace("\x00", "\ufffd")
        if not value.isascii():
            value = value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        return value
    if isinstance(value, Mapping):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value
