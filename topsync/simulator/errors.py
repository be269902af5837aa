"""The platform's refusals (docs/platform/gateway.md 2)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum


class Code(IntEnum):
    """Refusals of the gateway itself (docs/platform/gateway.md 2.2)."""

    PLATFORM_SYSTEM = 1
    CALL_LIMITED = 7
    HTTP_ACTION = 9
    APP_PERMISSION = 11
    MISSING_METHOD = 21
    INVALID_METHOD = 22
    INVALID_FORMAT = 23
    MISSING_SIGNATURE = 24
    INVALID_SIGNATURE = 25
    MISSING_SESSION = 26
    INVALID_SESSION = 27
    MISSING_APP_KEY = 28
    INVALID_APP_KEY = 29
    MISSING_TIMESTAMP = 30
    INVALID_TIMESTAMP = 31
    MISSING_VERSION = 32
    INVALID_VERSION = 33
    UNSUPPORTED_VERSION = 34
    MISSING_ARGUMENTS = 40
    INVALID_ARGUMENTS = 41


_MESSAGES: Mapping[int, str] = {
    1: "Platform System error: no such application, AppKey: null",
    7: "App Call Limited",
    9: "Http Action Not Allowed",
    11: "Insufficient isv permissions",
    21: "Missing Method",
    22: "Invalid Method",
    23: "Invalid Format",
    24: "Missing Signature",
    25: "Invalid signature",
    26: "Missing Session",
    27: "Invalid session",
    28: "Missing App Key",
    29: "Invalid App Key",
    30: "Missing Timestamp",
    31: "Invalid timestamp",
    32: "Missing Version",
    33: "Invalid Version",
    34: "Unsupported Version",
    40: "Missing Required Arguments",
    41: "Invalid Arguments",
}
_BUSINESS_MESSAGE = "Remote service error"
_SERVICE_REJECTION_CODE = 520


class ApiError(Exception):
    """A call is refused. `code` is None when a service refuses; its number (15 or 50) is a quirk."""

    def __init__(self, code: int | None, sub_code: str | None = None, sub_msg: str | None = None) -> None:
        super().__init__(code, sub_code)
        self.code = code
        self.sub_code = sub_code
        self.sub_msg = sub_msg

    @property
    def msg(self) -> str:
        """The fixed English text of the code."""
        return _BUSINESS_MESSAGE if self.code is None else _MESSAGES.get(self.code, _BUSINESS_MESSAGE)


def closed() -> ApiError:
    """The app has no right to this API."""
    return ApiError(Code.APP_PERMISSION, "isv.permission-api-package-limit", "应用没有该接口的权限")


def unknown_app() -> ApiError:
    """The platform's other refusal of an unknown application, from a public capture."""
    return ApiError(Code.PLATFORM_SYSTEM, "isp.get-app-error")


def missing(argument: str) -> ApiError:
    """A required application argument is absent."""
    return ApiError(Code.MISSING_ARGUMENTS, f"isv.missing-parameter:{argument}", f"缺少必选参数：{argument}")


def invalid(argument: str, why: str) -> ApiError:
    """An application argument does not have its form."""
    return ApiError(Code.INVALID_ARGUMENTS, f"isv.invalid-parameter:{argument}", why)


def mismatch(first: str, second: str, why: str) -> ApiError:
    """Two arguments contradict each other."""
    return ApiError(None, f"isv.parameters-mismatch:{first}-and-{second}", why)


def service_rejection() -> ApiError:
    """A query is too slow, or there are too many slow queries."""
    return ApiError(
        _SERVICE_REJECTION_CODE,
        "isv.trade-service-rejection",
        "超时请求过多，请缩小查询时间跨度，3分钟后再查询",
    )


def business(sub_code: str, sub_msg: str) -> ApiError:
    """A service refuses for a reason of its business."""
    return ApiError(None, sub_code, sub_msg)
