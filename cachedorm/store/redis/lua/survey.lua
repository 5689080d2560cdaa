-- SURVEY: what stands at some keys, for people to look at; changes nothing.
--
-- KEYS   any keys, the library's or not
-- ARGV   how many bytes to show of each
-- Reply  for each key {type, its first bytes, size, left_ms}
--
-- The size of a string is in bytes, that of a sorted set the number of intents still alive in it
-- by the server's own clock, of anything else 0. left_ms is -1 for a key that never ends, and -2
-- for one that is gone.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = tonumber(ARGV[1]) - 1

local found = {}
for i, key in ipairs(KEYS) do
  local type, begin, size = redis.call('TYPE', key).ok, '', 0
  if type == 'string' then
    begin, size = redis.call('GETRANGE', key, 0, last), redis.call('STRLEN', key)
  elseif type == 'zset' then
    size = redis.call('ZCOUNT', key, '(' .. now, '+inf')
  end
  found[i] = {type, begin, size, redis.call('PTTL', key)}
end
return found
