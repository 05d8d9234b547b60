
-- Gives units back. After each limit's columns come the five numbers of its receipt.
--
-- Returns for each limit what it has again, in units and 0, or of a bucket in whole
-- microseconds and ticks beyond; or -1: all, since nothing of it is used.
local limits, at = {}, FIRST
for i = 1, #KEYS do
  local rule = rule_of(ARGV[at])
  local limit = { rule = rule, key = KEYS[i] }
  if not rule.read(limit, at + 1) then
    return not_ours(KEYS[i])
  end
  limit.receipt = at + 1 + rule.columns
  limits[i], at = limit, limit.receipt + 5
end

local reply = {}
for i = 1, #limits do
  reply[2 * i - 1], reply[2 * i] = limits[i].rule.give_back(limits[i], limits[i].receipt)
end
return reply
