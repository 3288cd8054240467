"""What the address of the list of runs asks for: search, choices, columns, order, and the saved view it came from."""

from collections.abc import Sequence

from django.http import QueryDict

from webapp.accounts.middleware import StudioRequest
from webapp.pages.context import Frame
from webapp.pages.runs.columns import DEFAULT, NEWEST, chosen, sort_of
from webapp.pages.runs.inputs import storable
from webapp.runs.models import RunView
from webapp.runs.run_views import FILTERS, ViewState

# An address that says none of these shows the view that it names, or the one that the person's list begins with.
_SAYS = ("q", "sort", "column", *FILTERS)


def asked_for(request: StudioRequest, views: Sequence[RunView]) -> tuple[QueryDict, RunView | None]:
    """The address with all that it asks for, and the view that it came from, if it is one of `views`."""
    asked = storable(request.GET)
    wanted = asked.get("view")
    view = next((view for view in views if str(view.pk) == wanted), None)
    if not any(name in asked for name in _SAYS):
        if wanted is None:
            view = next((view for view in views if getattr(view, "is_default", False)), None)
        if view is not None:
            page = asked.get("page")
            asked = address_of(ViewState.of(view))
            asked["view"] = str(view.pk)
            if page:
                asked["page"] = page
    if "project" not in asked and (project := Frame(request).project):
        asked["project"] = project.name
    return asked, view


def address_of(state: ViewState) -> QueryDict:
    """The address of what a view shows. It names a project even if that is any: the top bar's would hold."""
    address = QueryDict(mutable=True)
    address["project"] = ""
    if state.query:
        address["q"] = state.query
    for name, value in state.filters.items():
        address[name] = value
    if state.sort:
        address["sort"] = state.sort
    address.setlist("column", list(state.columns))
    return address


def state_of(asked: QueryDict) -> ViewState:
    """What an address shows, as views have it: the same for addresses that show the same."""
    filters = {name: value for name in FILTERS if (value := asked.get(name, "").strip())}
    columns = tuple(column.name for column in chosen(asked.getlist("column")))
    sort = sort_of(asked.get("sort", NEWEST))
    return ViewState(asked.get("q", "").strip(), filters, () if columns == DEFAULT else columns, sort)


def query_with(asked: QueryDict, **changes: str | None) -> str:
    """The address's query with some parameters changed; None takes one out."""
    query = asked.copy()
    for name, value in changes.items():
        query.pop(name, None)
        if value is not None:
            query[name] = value
    # An address that asks for nothing shows what the person's list begins with.
    return query.urlencode() or "view="
