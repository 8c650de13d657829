"""Make the pictures of the documentation from real pages in a real browser: ``make docs-media``."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from tests.support.browser import Browser, chromium, serving
from tests.support.web_service import WebService, web_service
from tests.web.test_ten_seconds import REQUESTS

FOLDER = Path(__file__).parents[2] / "docs/images"
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
DESK = {"viewport": {"width": 1280, "height": 800}}


async def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with web_service(Path(folder)) as web, serving(web) as url, chromium() as browser:
            asked = {name: await web.request_approval(**request, incident=name) for name, request in REQUESTS.items()}
            for scheme in ("light", "dark"):
                phone = await _signed_in(web, url, browser, {**PHONE, "color_scheme": scheme})
                for name in REQUESTS:
                    if scheme == "light" or name == "four-steps":
                        await _show(phone, f"{url}/approvals/{asked[name].id}", f"approval-{name}-{scheme}")
            desk = await _signed_in(web, url, browser, {**DESK, "color_scheme": "light"})
            await _show(desk, url, "console")
            await _show(desk, f"{url}/runs/{asked['one-step'].run_id}", "run")


async def _signed_in(web: WebService, url: str, browser: Browser, device: dict[str, Any]) -> Any:
    page = await (await browser.new_context(**device)).new_page()
    await page.goto(f"{url}/sign-in")
    await page.fill("#token", web.tokens["oscar"])
    await page.click("main button.go")
    await page.wait_for_selector("text=Sign out")
    return page


async def _show(page: Any, address: str, name: str) -> None:
    await page.goto(address)
    await page.screenshot(path=str(FOLDER / f"{name}.png"))


if __name__ == "__main__":
    asyncio.run(main())
