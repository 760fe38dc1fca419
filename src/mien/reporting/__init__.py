"""Pictures and pages for people: annotated photographs, contact sheets, self-contained HTML reports."""

from mien.reporting.pictures import annotate, colour_of, contact_sheet, thumbnail

__all__ = ["annotate", "colour_of", "contact_sheet", "thumbnail"]
