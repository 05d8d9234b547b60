-- What both scripts on any limits have: the rules, each a table of small functions.
--
-- KEYS       one for each limit, all in one hash slot
-- ARGV[1]    the time in microseconds, or 0 for the server's own
-- ARGV[2]    milliseconds to keep a key beyond its state
-- ARGV[3]    how it is asked: 0 exactly, 1 up to, 2 overdraw
-- ARGV[4]    the units
-- ARGV[5]    a number that no other call has, where a receipt is wanted; else 0
-- then for each limit its rule, by number, and the rule's columns
--
-- Times are in microseconds. All numbers are integers below 2^53, which Lua's
-- floating-point numbers hold exactly; what might be more is in two parts.
local call, floor, format, match = redis.call, math.floor, string.format, string.match

local now, grace = tonumber(ARGV[1]), tonumber(ARGV[2])
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
local ask, units, nonce = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local UP_TO, OVERDRAW = 1, 2
-- A clock may be this far behind a state.
local TOLERANCE = 1000000
-- The first limit's place.
local FIRST = 6

local function not_ours(key)
  return redis.error_reply('ERR not the state of a rate limit: ' .. key)
end

-- For how many milliseconds to keep what is worth something for so long.
local function kept(left)
  return format('%d', floor(left / 1000) + 1 + grace)
end

-- How many of a rule's units there may be.
local function most(limit)
  return ask == OVERDRAW and limit.most or limit.limit
end

-- A bucket's ticks are in two parts: whole microseconds, and ticks beyond.

local function carry(whole, ticks, parts)
  if ticks >= parts then
    return whole + 1, ticks - parts
  elseif ticks < 0 then
    return whole - 1, ticks + parts
  end
  return whole, ticks
end

local function more(whole, ticks, than, than_ticks)
  return whole > than or (whole == than and ticks > than_ticks)
end

-- So many times an interval. The units are multiplied in two halves of 26 bits, since
-- units and ticks (below 2^17) are more than 53 together.
local HALF = 67108864
local function times(number, whole, ticks, parts)
  local high, low = floor(number / HALF), number % HALF
  local over = ticks * high
  local rest = (over % parts) * HALF + ticks * low
  return number * whole + floor(over / parts) * HALF + floor(rest / parts), rest % parts
end

-- How many intervals fit, up to `wanted`: by floating-point numbers near enough, then exactly.
local function fitting(room, room_ticks, whole, ticks, parts, wanted)
  local number = floor((room + room_ticks / parts) / (whole + ticks / parts))
  if number > wanted then
    number = wanted
  end
  local function fits(some)
    local sum, sum_ticks = times(some, whole, ticks, parts)
    return not more(sum, sum_ticks, room, room_ticks)
  end
  while number > 0 and not fits(number) do
    number = number - 1
  end
  while number < wanted and fits(number + 1) do
    number = number + 1
  end
  return number
end

-- Token bucket. The state is the time at which it is full: "microseconds", or
-- "microseconds:ticks:parts" where ticks are left over, or, where units may be given back,
-- "microseconds:ticks:parts:returned:ticks:period" with what was given back since this
-- period of debt got its number. Why that is needed, `state.rs` of stanchion-limit says.
local bucket = { columns = 7 }

function bucket.read(limit, at)
  limit.parts = tonumber(ARGV[at])
  limit.cost, limit.cost_ticks = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  limit.capacity, limit.capacity_ticks = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  limit.most, limit.most_ticks = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  limit.debt, limit.ticks = 0, 0
  local state = call('GET', limit.key)
  if not state then
    return true
  end
  local full, ticks, period, back, back_ticks = match(state, '^%d+$'), 0, nil, nil, nil
  if full then
    full = tonumber(full)
  else
    local of, rest
    full, ticks, of, rest = match(state, '^(%d+):(%d+):(%d+)(.*)$')
    if not full then
      return false
    end
    full, ticks = tonumber(full), tonumber(ticks)
    if rest ~= '' then
      back, back_ticks, period = match(rest, '^:(%d+):(%d+):(%d+)$')
      if not period then
        return false
      end
    end
    if tonumber(of) ~= limit.parts then
      -- Another quota's ticks: rounded up, towards refusal. Its receipts are void.
      full, ticks, period = full + (ticks > 0 and 1 or 0), 0, nil
    end
  end
  if more(full, ticks, now, 0) then
    limit.debt, limit.ticks, limit.period = full - now, ticks, period
    limit.back, limit.back_ticks = tonumber(back), tonumber(back_ticks)
  end
  return true
end

function bucket.is_beyond(limit)
  return more(limit.debt, limit.ticks, limit.most + TOLERANCE, limit.most_ticks)
end

function bucket.fit(limit, wanted)
  local top, top_ticks = limit.capacity, limit.capacity_ticks
  if ask == OVERDRAW then
    top, top_ticks = limit.most, limit.most_ticks
  elseif ask == UP_TO then
    local room, room_ticks = carry(top - limit.debt, top_ticks - limit.ticks, limit.parts)
    return room < 0 and 0 or fitting(room, room_ticks, limit.cost, limit.cost_ticks, limit.parts, wanted)
  end
  local sum, ticks = carry(limit.debt + limit.cost, limit.ticks + limit.cost_ticks, limit.parts)
  return more(sum, ticks, top, top_ticks) and 0 or wanted
end

function bucket.write(limit)
  local text = format('%d', now + limit.debt)
  if limit.period then
    text = text .. format(':%d:%d:%d:%d:', limit.ticks, limit.parts, limit.back, limit.back_ticks) .. limit.period
  elseif limit.ticks > 0 then
    text = text .. format(':%d:%d', limit.ticks, limit.parts)
  end
  call('SET', limit.key, text, 'PX', kept(limit.debt))
end

function bucket.take(limit, granted)
  local cost, ticks = limit.cost, limit.cost_ticks
  if ask == UP_TO then
    cost, ticks = times(granted, cost, ticks, limit.parts)
  end
  limit.debt, limit.ticks = carry(limit.debt + cost, limit.ticks + ticks, limit.parts)
  if nonce ~= '0' and not limit.period then
    limit.period, limit.back, limit.back_ticks = nonce, 0, 0
  end
  bucket.write(limit)
end

function bucket.cut(limit)
  limit.debt, limit.ticks, limit.period = limit.capacity, limit.capacity_ticks, nil
  bucket.write(limit)
end

function bucket.report(limit)
  return limit.debt, limit.ticks, 0, 0
end

function bucket.mark(limit)
  return now + limit.debt, limit.ticks, limit.back, limit.back_ticks, limit.period
end

-- The total of what was given back wraps around: 2^52 microseconds are 142 years.
local WRAP = 4503599627370496

-- Gives back, at most what a receipt's debt has not paid off by itself, less what has been
-- given back since. The cost is that of the units.
function bucket.give_back(limit, at)
  local debt, ticks, parts = limit.debt, limit.ticks, limit.parts
  if debt == 0 and ticks == 0 then
    return -1, 0
  end
  if limit.period ~= ARGV[at + 4] then
    return 0, 0
  end
  local since, since_ticks = carry(limit.back - ARGV[at + 2], limit.back_ticks - ARGV[at + 3], parts)
  local back, back_ticks = carry(ARGV[at] - now - since % WRAP, ARGV[at + 1] - since_ticks, parts)
  if back < 0 then
    return 0, 0
  end
  if more(back, back_ticks, debt, ticks) then
    back, back_ticks = debt, ticks
  end
  if more(back, back_ticks, limit.cost, limit.cost_ticks) then
    back, back_ticks = limit.cost, limit.cost_ticks
  end
  limit.debt, limit.ticks = carry(debt - back, ticks - back_ticks, parts)
  limit.back, limit.back_ticks = carry(limit.back + back, limit.back_ticks + back_ticks, parts)
  limit.back = limit.back % WRAP
  if limit.debt == 0 and limit.ticks == 0 then
    call('DEL', limit.key)
    return -1, 0
  end
  bucket.write(limit)
  return back, back_ticks
end

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

-- Sliding counter. The state is "window:number:previous:current:from": the windows' length,
-- the number of the present one, the two counts, and the first window whose units can be given
-- back, since the counts were made of those of windows of another length.
local counter = { columns = 3 }

-- How many of the units of the window before still count: in 2^20ths of them, rounded up
-- twice. The share's digits are worked out one by one: left * 2^20 is more than 2^53.
local function covered(previous, left, window)
  if previous == 0 or left <= 0 then
    return 0
  end
  local share, rest = 0, left
  for _ = 1, 20 do
    share, rest = share * 2, rest * 2
    if rest >= window then
      local digit = floor(rest / window)
      share, rest = share + digit, rest - digit * window
    end
  end
  if rest > 0 then
    share = share + 1
  end
  return math.ceil(previous * share / 1048576)
end

function counter.read(limit, at)
  limit.limit, limit.most, limit.window = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local window = limit.window
  local present = floor(now / window)
  limit.number, limit.previous, limit.current, limit.from = present, 0, 0, 0
  local state = call('GET', limit.key)
  if not state then
    return true
  end
  local length, number, previous, current, from = match(state, '^(%d+):(%d+):(%d+):(%d+):(%d+)$')
  if not length then
    return false
  end
  length, number, from = tonumber(length), tonumber(number), tonumber(from)
  previous, current = tonumber(previous), tonumber(current)
  if length ~= window then
    -- In the old windows' time: what the last of them counts for now.
    local then_, left = floor(now / length), length - now % length
    if then_ < number then
      current = previous + current
    elseif then_ == number then
      current = covered(previous, left, length) + current
    elseif then_ == number + 1 then
      current = covered(current, left, length)
    else
      current = 0
    end
    number, previous, from = present, 0, present + 1
  end
  if present == number + 1 then
    number, previous, current = present, current, 0
  elseif present > number then
    number, previous, current = present, 0, 0
  end
  if previous > 0 or current > 0 then
    limit.number, limit.previous, limit.current, limit.from = number, previous, current, from
  end
  return true
end

-- How long until the window begins, where a clock is a little behind, and how much of it is over.
local function progress(limit)
  local begins = limit.number * limit.window
  return math.max(begins - now, 0), math.max(now - begins, 0)
end

function counter.is_beyond(limit)
  return progress(limit) > limit.window + TOLERANCE
end

function counter.fit(limit, wanted)
  local _, elapsed = progress(limit)
  local used = limit.current + covered(limit.previous, limit.window - elapsed, limit.window)
  return math.min(wanted, math.max(most(limit) - used, 0))
end

function counter.write(limit)
  local windows = limit.current > 0 and 2 or 1
  local text = format('%d:%d:%d:%d:%d', limit.window, limit.number, limit.previous, limit.current, limit.from)
  call('SET', limit.key, text, 'PX', kept((limit.number + windows) * limit.window - now))
end

function counter.take(limit, granted)
  limit.current = limit.current + granted
  counter.write(limit)
end

function counter.cut(limit)
  limit.number, limit.previous, limit.current, limit.from = floor(now / limit.window), 0, limit.limit, 0
  counter.write(limit)
end

function counter.report(limit)
  local ahead, elapsed = progress(limit)
  return limit.previous, limit.current, elapsed, ahead
end

function counter.mark(limit)
  return limit.number, limit.window, 0, 0, 0
end

function counter.give_back(limit, at)
  if limit.previous + limit.current == 0 then
    return -1, 0
  end
  local number = tonumber(ARGV[at])
  local count
  if tonumber(ARGV[at + 1]) == limit.window and number >= limit.from then
    count = ({ [limit.number] = 'current', [limit.number - 1] = 'previous' })[number]
  end
  if not count then
    return 0, 0
  end
  local back = math.min(units, limit[count])
  limit[count] = limit[count] - back
  if limit.previous + limit.current == 0 then
    call('DEL', limit.key)
  else
    counter.write(limit)
  end
  return back, 0
end

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
  if time + limit.window <= now then
    return 0, 0
  end
  -- The first entry of that time or later.
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

local rules = { ['0'] = bucket, ['1'] = fixed, ['2'] = counter, ['3'] = log }
