"""What became of raw inputs that were standardized: a state on the raw input, and the report beside it."""

from results_service.documents import stored_id
from results_service.mongo import Document, Mongo
from shared.imports import ImportedFinding
from shared.results import ResultKind, StandardizationState

REPORT_MAX_BYTES = 4 * 1024 * 1024
"""Of one finding: MongoDB takes 16 MB a document. Names out of the files may be long, and many."""


class ImportRecords:
    """The reports of one database."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._reports = mongo.collection("import_reports")

    async def write(self, raw_name: str, state: StandardizationState, *findings: ImportedFinding) -> None:
        """Keep the report on a raw input; a majority has both on return."""
        id_ = stored_id(raw_name)
        reports = [_fitted(finding) for finding in findings]
        async with self._mongo.answering():
            await self._reports.replace_one({"_id": id_}, {"findings": reports}, upsert=True)
            changes = {"$set": {"standardization": state.value}}
            await self._mongo.collection(ResultKind.RAW).update_one({"_id": id_}, changes)

    async def read(self, raw_name: str) -> list[ImportedFinding]:
        """The report on a raw input; empty if there is none."""
        async with self._mongo.answering():
            document: Document | None = await self._reports.find_one({"_id": stored_id(raw_name)})
        return [ImportedFinding.model_validate_json(text) for text in (document or {}).get("findings", [])]


def _fitted(finding: ImportedFinding) -> str:
    """A finding's report as it is kept: without its lists where these would be too large, but with all it counts."""
    text = finding.model_dump_json()
    if len(text) <= REPORT_MAX_BYTES:
        return text
    warning = "what was listed here is too much to be kept: only the answer to the import had it"
    without = {"runs": [], "refused": [], "passed_over": [], "fields_left": {}, "aggregates": [], "warnings": [warning]}
    return finding.model_copy(update=without).model_dump_json()
