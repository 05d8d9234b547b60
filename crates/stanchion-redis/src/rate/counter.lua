
define['2'] = function()
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

  return counter
end
