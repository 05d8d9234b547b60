//! Units of the calendar, in UTC.

/// A unit of the calendar, in UTC, at whose beginning a fixed window begins.
///
/// As configuration: `"minute"`, `"hour"`, `"day"`, `"week"`, `"month"`, `"year"`.
/// The calendar is the Gregorian one, and like the system's clock it knows no leap
/// seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum CalendarUnit {
    /// From second 0 to the next.
    Minute,
    /// From minute 0 to the next.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday (ISO 8601).
    Week,
    /// From the first to the first.
    Month,
    /// From January to January.
    Year,
}

const DAY: u64 = 86_400;
/// 1970 began on a Thursday, three days into a week.
const DAYS_INTO_WEEK: u64 = 3;

impl CalendarUnit {
    /// When the unit around a time begins, and when the next one does: in seconds
    /// since the beginning of 1970, as `unix` is. The week of that day is cut short.
    ///
    /// ```
    /// use stanchion_core::CalendarUnit;
    ///
    /// let noon_of_2024_02_29 = 1_709_208_000;
    /// assert_eq!(CalendarUnit::Day.around(noon_of_2024_02_29), (1_709_164_800, 1_709_251_200));
    /// assert_eq!(CalendarUnit::Month.around(noon_of_2024_02_29), (1_706_745_600, 1_709_251_200));
    /// ```
    pub const fn around(self, unix: u64) -> (u64, u64) {
        let days = unix / DAY;
        let (first, next) = match self {
            Self::Minute => return even(unix, 60),
            Self::Hour => return even(unix, 3_600),
            Self::Day => (days, days + 1),
            Self::Week => {
                let monday = (days + DAYS_INTO_WEEK) / 7 * 7;
                (monday.saturating_sub(DAYS_INTO_WEEK), monday + 7 - DAYS_INTO_WEEK)
            }
            Self::Month => {
                let (year, month) = month_of(days);
                (days_before(year, month), days_before(year, month + 1))
            }
            Self::Year => {
                let (year, _) = month_of(days);
                (days_before(year, 1), days_before(year, 13))
            }
        };
        (first * DAY, next * DAY)
    }

    /// The longest that such a unit can be, in seconds.
    pub const fn longest(self) -> u64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => DAY,
            Self::Week => 7 * DAY,
            Self::Month => 31 * DAY,
            Self::Year => 366 * DAY,
        }
    }
}

const fn even(unix: u64, seconds: u64) -> (u64, u64) {
    let start = unix - unix % seconds;
    (start, start.saturating_add(seconds))
}

/// The days before the first of a month (1 to 13), from 1970 on. A month is
/// counted from March, so that the day that some years have more is the last one
/// of a year; the lengths of the months are then 153 days in each five.
const fn days_before(year: u64, month: u64) -> u64 {
    let (year, month) = if month > 12 { (year + 1, month - 12) } else { (year, month) };
    let (year, since_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    // 719,468 days lie between the first of March of the year 0 and 1970.
    365 * year + leap_days + (153 * since_march + 2) / 5 - 719_468
}

/// The year and the month (1 to 12) of a day, counted from 1970 on.
const fn month_of(days: u64) -> (u64, u64) {
    // Near enough, and never late: then the one or two steps that are missing.
    let mut year = 1970 + days / 366;
    while days_before(year + 1, 1) <= days {
        year += 1;
    }
    let mut month = 1 + (days - days_before(year, 1)) / 31;
    while days_before(year, month + 1) <= days {
        month += 1;
    }
    (year, month)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Day by day through 600 years, with the rule for leap years in plain words.
    #[test]
    fn months_and_years_follow_one_another() {
        let (mut year, mut month, mut day) = (1970_u64, 1_u64, 1_u64);
        let (mut month_began, mut year_began) = (0, 0);
        for days in 0..600 * 366 {
            let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
            let length = match month {
                4 | 6 | 9 | 11 => 30,
                2 if leap => 29,
                2 => 28,
                _ => 31,
            };
            let (start, end) = CalendarUnit::Month.around(days * DAY + DAY - 1);
            assert_eq!((start, end - start), (month_began * DAY, length * DAY), "{year}-{month}-{day}");
            let (start, end) = CalendarUnit::Year.around(days * DAY);
            assert_eq!((start, end - start), (year_began * DAY, (365 + u64::from(leap)) * DAY), "{year}");
            day += 1;
            if day > length {
                (day, month, month_began) = (1, month + 1, days + 1);
            }
            if month > 12 {
                (month, year, year_began) = (1, year + 1, days + 1);
            }
        }
    }

    #[test]
    fn a_week_begins_on_monday() {
        // 2026-11-16 was a Monday.
        let monday = 1_794_787_200;
        assert_eq!(CalendarUnit::Week.around(monday), (monday, monday + 7 * DAY));
        assert_eq!(CalendarUnit::Week.around(monday - 1), (monday - 7 * DAY, monday));
        assert_eq!(CalendarUnit::Week.around(0), (0, 4 * DAY));
    }

    #[test]
    fn no_unit_is_longer_than_its_longest() {
        use CalendarUnit::{Day, Hour, Minute, Month, Week, Year};
        for unit in [Minute, Hour, Day, Week, Month, Year] {
            for unix in (0..2_000 * DAY).step_by(86_399) {
                let (start, end) = unit.around(unix);
                assert!(start <= unix && unix < end && end - start <= unit.longest(), "{unit:?} at {unix}");
            }
        }
    }

    #[test]
    fn the_end_of_all_time_is_no_panic() {
        for unit in [CalendarUnit::Minute, CalendarUnit::Week, CalendarUnit::Month, CalendarUnit::Year] {
            let (start, end) = unit.around(u64::MAX / 1_000_000_000);
            assert!(start < end);
        }
    }
}
