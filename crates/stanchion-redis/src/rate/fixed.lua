
define['1'] = function()
  -- The calendar, in days from 1970 on; see `calendar.rs` of stanchion-core.
  local DAY = 86400

  local function days_before(year, month)
    if month > 12 then
      year, month = year + 1, month - 12
    end
    local since_march = month - 3
    if month <= 2 then
      year, since_march = year - 1, month + 9
    end
    local leap_days = floor(year / 4) - floor(year / 100) + floor(year / 400)
    return 365 * year + leap_days + floor((153 * since_march + 2) / 5) - 719468
  end

  local function month_of(days)
    local year = 1970 + floor(days / 366)
    while days_before(year + 1, 1) <= days do
      year = year + 1
    end
    local month = 1 + floor((days - days_before(year, 1)) / 31)
    while days_before(year, month + 1) <= days do
      month = month + 1
    end
    return year, month
  end

  -- By the number of the unit: when the next one begins, in seconds.
  local next_unit = {
    function(seconds) return (floor(seconds / 60) + 1) * 60 end,
    function(seconds) return (floor(seconds / 3600) + 1) * 3600 end,
    function(seconds) return (floor(seconds / DAY) + 1) * DAY end,
    -- 1970 began three days into a week.
    function(seconds) return (floor((floor(seconds / DAY) + 3) / 7) * 7 + 4) * DAY end,
    function(seconds)
      local year, month = month_of(floor(seconds / DAY))
      return days_before(year, month + 1) * DAY
    end,
    function(seconds) return days_before(month_of(floor(seconds / DAY)) + 1, 1) * DAY end,
  }

  -- Fixed window. The state is "end:used". The last two columns are the window, or 0 and the
  -- number of the calendar's unit.
  local fixed = { columns = 4 }

  local function window_end(limit, time)
    if limit.window > 0 then
      return time + limit.window
    end
    return next_unit[limit.unit](floor(time / 1000000)) * 1000000
  end

  function fixed.read(limit, at)
    limit.limit, limit.most = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    limit.window, limit.unit = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    limit.ends, limit.used = now, 0
    local state = call('GET', limit.key)
    if state then
      local ends, used = match(state, '^(%d+):(%d+)$')
      if not ends then
        return false
      end
      if tonumber(ends) > now then
        limit.ends, limit.used = tonumber(ends), tonumber(used)
      end
    end
    return true
  end

  function fixed.is_beyond(limit)
    return limit.used > 0 and limit.ends > window_end(limit, now + TOLERANCE)
  end

  function fixed.fit(limit, wanted)
    return math.min(wanted, math.max(most(limit) - limit.used, 0))
  end

  function fixed.write(limit)
    call('SET', limit.key, format('%d:%d', limit.ends, limit.used), 'PX', kept(limit.ends - now))
  end

  function fixed.take(limit, granted)
    if limit.used == 0 then
      limit.ends = window_end(limit, now)
    end
    limit.used = limit.used + granted
    fixed.write(limit)
  end

  function fixed.cut(limit)
    limit.ends, limit.used = window_end(limit, now), limit.limit
    fixed.write(limit)
  end

  function fixed.report(limit)
    return limit.used, limit.ends - now, 0, 0
  end

  function fixed.mark(limit)
    return limit.ends, 0, 0, 0, 0
  end

  function fixed.give_back(limit, at)
    if limit.used == 0 then
      return -1, 0
    end
    if limit.ends ~= tonumber(ARGV[at]) then
      return 0, 0
    end
    local back = math.min(units, limit.used)
    limit.used = limit.used - back
    if limit.used == 0 then
      call('DEL', limit.key)
    else
      fixed.write(limit)
    end
    return back, 0
  end

  return fixed
end
