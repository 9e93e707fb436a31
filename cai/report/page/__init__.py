"""One self-contained HTML page about a run, or about several side by side.

`write_page` gathers everything from the runs' files and writes one file that asks nothing of any network.
What the page says is decided here, as plain data (`shapes`); the scripts in static/ only draw it. No model is
needed, and no text that a model wrote can become more than text (`html`).
"""

from cai.report.page.write import Page, write_page

__all__ = ["Page", "write_page"]
