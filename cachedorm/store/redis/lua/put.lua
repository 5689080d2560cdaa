-- PUT: store a value that the caller holds for true, without a lease.
--
-- KEYS   entry, its intents, then for each stamp: stamp, its intents
-- ARGV   ttl_ms, stamp_ttl_ms, head (what stands before the stamps), payload,
--        one new stamp per stamp key
-- Reply  1 if stored, 0 while a writer is about to commit
local STAMP = 16
local ttl_ms, stamp_ttl_ms, head, payload = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

for i = 2, #KEYS, 2 do
  local live = redis.pcall('ZCOUNT', KEYS[i], '(' .. now, '+inf')
  if type(live) == 'number' and live > 0 then return 0 end
end
local slot = redis.pcall('GET', KEYS[1])
if type(slot) == 'string' and #slot == 17 and slot:sub(1, 1) == 'I' then return 0 end

local parts = {head}
for i = 3, #KEYS, 2 do
  local stamp = redis.pcall('GET', KEYS[i])
  if type(stamp) ~= 'string' or #stamp ~= STAMP then
    stamp = ARGV[4 + (i - 1) / 2]
    redis.call('SET', KEYS[i], stamp, 'PX', stamp_ttl_ms)
  elseif redis.call('PTTL', KEYS[i]) < stamp_ttl_ms then
    redis.call('PEXPIRE', KEYS[i], stamp_ttl_ms)
  end
  parts[#parts + 1] = stamp
end
parts[#parts + 1] = payload
-- A lease is overwritten too: its holder's row is older than what the caller says now.
redis.call('SET', KEYS[1], table.concat(parts), 'PX', ttl_ms)
return 1
