"""A REST interface in FastAPI: notes that are made, read, changed and deleted, kept in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, TypedDict

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

Title = Annotated[str, Field(min_length=1, max_length=100)]
Text = Annotated[str, Field(max_length=10_000)]


class NewNote(BaseModel):
    """What a client gives."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    title: Title
    text: Text = ""


class Changes(BaseModel):
    """What a client changes; the rest stays."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    title: Title | None = None
    text: Text | None = None


class Note(NewNote):
    """What a client gets."""

    id: int
    created: datetime


class Page(BaseModel):
    """Some notes, and after which id the next page begins; None on the last page."""

    items: list[Note]
    next_after: int | None


class Notes:
    """The store. A database would stand in its place: each worker process has one of these of its own."""

    def __init__(self) -> None:
        self._notes: dict[int, Note] = {}
        self._last_id = 0

    def add(self, new: NewNote) -> Note:
        """Keep a note under the next id. Raises 409 where its title is taken."""
        self._check_title(new.title)
        self._last_id += 1
        note = Note(id=self._last_id, created=datetime.now(UTC), **new.model_dump())
        self._notes[note.id] = note
        return note

    def get(self, note_id: int) -> Note:
        """Return a note. Raises 404 where there is none."""
        try:
            return self._notes[note_id]
        except KeyError:
            raise HTTPException(404, f"there is no note {note_id}") from None

    def page(self, after: int, limit: int) -> Page:
        """Return the notes whose ids follow `after`, at most `limit`."""
        found = [note for note in self._notes.values() if note.id > after][: limit + 1]
        items = found[:limit]
        return Page(items=items, next_after=items[-1].id if len(found) > limit else None)

    def change(self, note_id: int, changes: Changes) -> Note:
        """Change what was given. Raises 404 and 409."""
        note = self.get(note_id)
        if changes.title is not None and changes.title != note.title:
            self._check_title(changes.title)
        self._notes[note_id] = note.model_copy(update=changes.model_dump(exclude_none=True))
        return self._notes[note_id]

    def delete(self, note_id: int) -> None:
        """Forget a note. Raises 404."""
        self.get(note_id)
        del self._notes[note_id]

    def _check_title(self, title: str) -> None:
        if any(note.title == title for note in self._notes.values()):
            raise HTTPException(409, f"there is a note with the title {title!r} already")


class State(TypedDict):
    """What the lifespan gives to all requests."""

    notes: Notes


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    """Open the store before the first request; a real one is closed behind the `yield`, after the last."""
    yield {"notes": Notes()}


def notes_of(request: Request) -> Notes:
    """The store, for each request: `request.state` is a copy of what the lifespan gave."""
    notes: Notes = request.state.notes
    return notes


Store = Annotated[Notes, Depends(notes_of)]
app = FastAPI(title="Notes", lifespan=lifespan)


@app.post("/notes", status_code=201)
async def create(new: NewNote, notes: Store, request: Request, response: Response) -> Note:
    """Make a note; `Location` says where it is."""
    note = notes.add(new)
    response.headers["location"] = str(request.url_for("read", note_id=note.id))
    return note


@app.get("/notes")
async def index(
    notes: Store,
    request: Request,
    response: Response,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page:
    """List notes, page by page; `Link` has the next page."""
    page = notes.page(after, limit)
    if page.next_after is not None:
        url = request.url.include_query_params(after=page.next_after, limit=limit)
        response.headers["link"] = f'<{url}>; rel="next"'
    return page


@app.get("/notes/{note_id}")
async def read(note_id: int, notes: Store) -> Note:
    """Show a note."""
    return notes.get(note_id)


@app.patch("/notes/{note_id}")
async def change(note_id: int, changes: Changes, notes: Store) -> Note:
    """Change a note."""
    return notes.change(note_id, changes)


@app.delete("/notes/{note_id}", status_code=204)
async def delete(note_id: int, notes: Store) -> None:
    """Delete a note."""
    notes.delete(note_id)
