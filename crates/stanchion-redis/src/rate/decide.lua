
-- Takes units from several limits, or from none.
--
-- Returns the units taken; then for each limit whether it was cut (1 or 0) and four
-- numbers on how it stands after that, by its rule; then, where a receipt is wanted, five more.
local limits, room, at = {}, units, FIRST
for i = 1, #KEYS do
  local rule = rule_of(ARGV[at])
  local limit = { rule = rule, key = KEYS[i], was_cut = 0 }
  if not rule.read(limit, at + 1) then
    return not_ours(KEYS[i])
  end
  if units > 0 and rule.is_beyond(limit) then
    -- More than the limit and a second's tolerance can explain: a clock has stepped back, or
    -- the limit was a larger one. As if it were used up now.
    limit.was_cut, room = 1, 0
  end
  if room > 0 then
    room = math.min(room, rule.fit(limit, room))
  end
  limits[i], at = limit, at + 1 + rule.columns
end

local granted = (ask == UP_TO or room == units) and room or 0
local allowed = granted > 0 or units == 0
local wanted = ask == UP_TO and 1 or units
local reply = { granted }
for i = 1, #limits do
  local limit = limits[i]
  local rule = limit.rule
  if granted > 0 then
    rule.take(limit, granted)
  elseif limit.was_cut == 1 then
    rule.cut(limit)
  elseif rule.tidy then
    rule.tidy(limit)
  end
  local place = #reply
  reply[place + 1] = limit.was_cut
  reply[place + 2], reply[place + 3], reply[place + 4], reply[place + 5] = rule.report(limit, wanted, allowed)
  if nonce ~= '0' then
    local marks = granted > 0 and { rule.mark(limit) } or { 0, 0, 0, 0, 0 }
    for j = 1, 5 do
      reply[place + 5 + j] = tonumber(marks[j])
    end
  end
end
return reply
