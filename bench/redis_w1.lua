#!lua name=w1
-- One event of workload W1, exactly: duplicates, the profile's log, 20 values, 100 segments, changes.
-- keys: the user. args: id, timestamp, index of the event type (0-3), price, url.
-- A segment's state is implied by its column's value, so a column costs two walks of its thresholds,
-- before and after; that is cheaper than 100 memberships kept apart.
local WINDOW = 7 * 86400000
local LADDERS = {--[[LADDERS]]}

local function changed(column, whose, before, after, when)
  if before == after then return end
  for _, rung in ipairs(LADDERS[column]) do
    local was, is = before and before >= rung[1], after >= rung[1]
    if was ~= is then
      redis.call('RPUSH', 'changes', when .. ',' .. whose .. ',' .. rung[2] .. ',' .. (is and 1 or 0))
    end
  end
end

local function event(keys, args)
  local user, id, at, kind = keys[1], args[1], tonumber(args[2]), args[3]
  local price = tonumber(args[4])
  -- The ticker: what is older than the window leaves before this event is counted.
  while true do
    local due = redis.call('ZRANGEBYSCORE', 'due', '-inf', '(' .. args[2], 'WITHSCORES', 'LIMIT', 0, 100)
    if #due == 0 then break end
    for i = 1, #due, 2 do
      local whose, column = string.match(due[i], '^([^,]*),([^,]*)')
      local left = redis.call('HINCRBY', 'p:' .. whose, column, -1)
      changed(column, whose, left + 1, left, string.format('%.0f', tonumber(due[i + 1]) + 1))
      redis.call('ZREM', 'due', due[i])
    end
  end

  if redis.call('SADD', 'ids:' .. user, args[2] .. ',' .. id) == 0 then return 0 end
  redis.call('RPUSH', 'log:' .. user, id .. ',' .. args[2] .. ',' .. kind .. ',' .. args[4] .. ',' .. args[5])
  local profile = 'p:' .. user
  local c, s, m, l, d = 'c_' .. kind, 's_' .. kind, 'm_' .. kind, 'l_' .. kind, 'd_' .. kind
  local old = redis.call('HMGET', profile, c, s, m, l, d)
  local count, total = tonumber(old[1] or 0), tonumber(old[2] or 0)
  local most, last, inside = tonumber(old[3] or '-inf'), tonumber(old[4] or -1), tonumber(old[5] or 0)
  local sum, top = total + price, math.max(most or price, price)
  redis.call('HSET', profile, c, count + 1, s, string.format('%.17g', sum), m, string.format('%.17g', top),
    l, string.format('%.0f', math.max(last, at)), d, inside + 1)
  redis.call('ZADD', 'due', at + WINDOW, user .. ',' .. d .. ',' .. id .. ',' .. args[2])
  changed(c, user, count, count + 1, args[2])
  changed(s, user, total, sum, args[2])
  changed(m, user, most, top, args[2])
  changed(d, user, inside, inside + 1, args[2])
  return 1
end

redis.register_function('event', event)
