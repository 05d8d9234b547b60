
define['0'] = function()
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

  return bucket
end
