"""When the calendar's work is due: crontab lines in a time zone."""

from datetime import UTC
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from supervisor.core.settings import MaintenanceSettings


def maintenance_trigger(settings: MaintenanceSettings) -> CronTrigger | None:
    """When maintenance is due; None where it is by hand only. ValueError: a line or a zone that there is not.

    Days of the week by name: in a crontab 0 is Sunday, and for APScheduler it is Monday.
    """
    if settings.schedule is None:
        return None
    try:
        zone = UTC if settings.timezone == "UTC" else ZoneInfo(settings.timezone)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"there is no time zone '{settings.timezone}'") from None
    fields = settings.schedule.split()
    if len(fields) == 5 and any(character.isdigit() for character in fields[4]):
        raise ValueError("name the day of the week: mon, tue, wed, thu, fri, sat, sun")
    return CronTrigger.from_crontab(settings.schedule, timezone=zone)
