-- Looks for the value, and takes the lease on the key.
--
-- ARGV[3]  the most bytes that a value may have; -1 if none is wanted
-- ARGV[4]  how long to lease the key, if there is no fresh value; -1 for not at all
--
-- Returns { 1 or 0 for a value, its age, how long it is fresh, its tags, its bytes,
-- 0 without a lease, 1 for one that was granted, 2 for somebody else's, the fence or the
-- time left of it }.
local most, duration = tonumber(ARGV[3]), tonumber(ARGV[4])

-- As much as is read at first: all of a small value.
local FIRST = 4096

local function value()
  local head = try('GETRANGE', ENTRY, 0, FIRST - 1)
  if type(head) ~= 'string' then
    return
  end
  local mark, ahead, fresh, keep, tags, length, first = match(head, '^(%d+):(%d+):(%d+):(%d+):(%d+):(%d+):()')
  mark, ahead, fresh, keep = number(mark), number(ahead), number(fresh), number(keep)
  tags, length = number(tags), number(length)
  if not (mark and ahead and fresh and keep and tags and length) or tags + length > most then
    return
  end
  local size = #head < FIRST and #head or call('STRLEN', ENTRY)
  if size ~= first - 1 + tags + length then
    return
  end
  -- As a string has it, from 0.
  local from = first - 1
  local function part(begin, length)
    if length == 0 then
      return ''
    elseif begin + length <= #head then
      return string.sub(head, begin + 1, begin + length)
    end
    return call('GETRANGE', ENTRY, format('%d', begin), format('%d', begin + length - 1))
  end
  local names = part(from, tags)
  local at = mark - ahead
  if not cleared or mark <= cleared or at + keep <= now or void(names, mark) then
    call('DEL', ENTRY)
    return
  end
  return math.max(0, now - at), fresh, names, part(from + tags, length)
end

local age, fresh, tags, bytes
if most >= 0 then
  age, fresh, tags, bytes = value()
end
local reply = { 0, 0, 0, '', '', 0, 0 }
if age then
  reply = { 1, age, fresh, tags, bytes, 0, 0 }
end
if duration >= 0 and not (age and age < fresh) then
  local _, _, ends = standing()
  if ends then
    reply[6], reply[7] = 2, ends - now
  else
    local mark = next_mark()
    lend(format('%d', mark), mark - now, now + duration)
    reply[6], reply[7] = 1, mark
  end
end
return reply
