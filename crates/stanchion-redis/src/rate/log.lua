
define['3'] = function()
  -- Sliding log. The state is a list: "time:units" for each admission, oldest first, and at last
  -- the total of them all, so that nobody has to add them up. Those that have expired are
  -- removed by the next admission.
  local log = { columns = 3 }

  -- Shows the entries from a place on, until `visit` says so. The total ends them, too.
  local function walk(key, from, visit)
    local chunk = 2
    while true do
      local entries = call('LRANGE', key, from, from + chunk - 1)
      for i = 1, #entries do
        local at, counted = match(entries[i], '^(%d+):(%d+)$')
        if not at or visit(tonumber(at), tonumber(counted), from + i - 1) then
          return
        end
      end
      if #entries < chunk then
        return
      end
      from, chunk = from + chunk, math.min(4 * chunk, 256)
    end
  end

  function log.read(limit, at)
    limit.limit, limit.most, limit.window = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    limit.used, limit.total, limit.gone, limit.last = 0, 0, 0, 0
    local tail = call('LRANGE', limit.key, -2, -1)
    if #tail == 0 then
      return true
    end
    local last, total = match(tail[1], '^(%d+):%d+$'), tonumber(tail[2])
    if not (last and total) then
      return false
    end
    limit.exists = true
    local expired = now - limit.window
    if tonumber(last) > expired then
      limit.last, limit.total, limit.used = tonumber(last), total, total
      walk(limit.key, 0, function(time, counted, place)
        if time > expired then
          limit.gone, limit.first = place, time
          return true
        end
        limit.used = limit.used - counted
      end)
    end
    return true
  end

  function log.is_beyond(limit)
    return limit.used > 0 and limit.last > now + TOLERANCE
  end

  function log.fit(limit, wanted)
    return math.min(wanted, math.max(most(limit) - limit.used, 0))
  end

  local function begin(limit, time, counted)
    if limit.exists then
      call('DEL', limit.key)
    end
    call('RPUSH', limit.key, format('%d:%d', time, counted), counted)
    limit.first, limit.last, limit.used, limit.total, limit.gone = time, time, counted, counted, 0
    call('PEXPIRE', limit.key, kept(time + limit.window - now))
  end

  function log.take(limit, granted)
    if limit.used == 0 then
      return begin(limit, now, granted)
    end
    if limit.gone > 0 then
      call('LTRIM', limit.key, limit.gone, -1)
      limit.gone = 0
    end
    -- Never before the last one: the clock may be a little behind.
    limit.last = math.max(now, limit.last)
    limit.used = limit.used + granted
    limit.total = limit.used
    call('LSET', limit.key, -1, format('%d:%d', limit.last, granted))
    call('RPUSH', limit.key, format('%d', limit.total))
    call('PEXPIRE', limit.key, kept(limit.last + limit.window - now))
  end

  function log.cut(limit)
    begin(limit, now, limit.limit)
  end

  -- Whoever finds many that have expired removes them, so that nobody has to pass them again.
  function log.tidy(limit)
    if limit.gone >= 256 then
      call('LTRIM', limit.key, limit.gone, -1)
      call('LSET', limit.key, -1, format('%d', limit.used))
      limit.gone, limit.total = 0, limit.used
    end
  end

  -- How long until the oldest so many units have expired.
  local function until_gone(limit, number)
    if number <= 0 then
      return 0
    end
    local time = limit.first
    if number >= limit.used then
      time = limit.last
    elseif number > 1 then
      walk(limit.key, limit.gone, function(at, counted)
        time, number = at, number - counted
        return number <= 0
      end)
    end
    return time + limit.window - now
  end

  function log.report(limit, wanted, allowed)
    if limit.used == 0 then
      return 0, 0, 0, 0
    end
    local wait = allowed and 0 or until_gone(limit, limit.used + wanted - most(limit))
    local next_ = until_gone(limit, math.max(limit.used + 1 - limit.limit, 1))
    return limit.used, wait, next_, until_gone(limit, limit.used)
  end

  function log.mark(limit)
    return limit.last, 0, 0, 0, 0
  end

  function log.give_back(limit, at)
    local time = tonumber(ARGV[at])
    if limit.used == 0 then
      return -1, 0
    end
    -- The first entry of that time or later that has not expired.
    local low, high = limit.gone, call('LLEN', limit.key) - 1
    while low < high do
      local middle = floor((low + high) / 2)
      if tonumber(match(call('LINDEX', limit.key, middle), '^%d+')) < time then
        low = middle + 1
      else
        high = middle
      end
    end
    local back, emptied, changed = 0, 0, {}
    walk(limit.key, low, function(entry, counted, place)
      if entry ~= time or back == units then
        return true
      end
      local some = math.min(units - back, counted)
      back = back + some
      changed[#changed + 1] = { place, some == counted and '' or format('%d:%d', time, counted - some) }
      emptied = emptied + (some == counted and 1 or 0)
    end)
    if back == limit.total then
      call('DEL', limit.key)
    elseif back > 0 then
      for _, change in ipairs(changed) do
        call('LSET', limit.key, change[1], change[2])
      end
      if emptied > 0 then
        call('LREM', limit.key, -emptied, '')
      end
      call('LSET', limit.key, -1, format('%d', limit.total - back))
    end
    return back, 0
  end

  return log
end
