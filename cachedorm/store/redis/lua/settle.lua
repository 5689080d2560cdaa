-- SETTLE: uncover what INTEND hid, just after COMMIT or ROLLBACK.
--
-- KEYS   for each touched stamp: stamp, its intents; for each touched entry: entry, its intents;
--        for each value (its entry is also among the touched): entry, then its stamps
-- ARGV   token, number of stamps, number of entries,
--        version of the registry that the caller knows ('' = it does not ask), this database, the
--        registry's database, the registry,
--        for each value: slot, ttl_ms, number of stamps
-- Reply  how many values were put; if it asks: 1 if the registry still has that version, else 0
--
-- Always by deletion, so doing it twice, late or out of order costs misses and nothing else.
local TOKEN = 16
local token, stamps, entries = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local mine = 'I' .. token
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Replies how many other writers are still about to commit.
local function withdraw(intents)
  local mended = redis.pcall('ZREM', intents, token)
  if type(mended) == 'table' then return 0 end
  return redis.call('ZCOUNT', intents, '(' .. now, '+inf')
end

for i = 1, stamps do
  withdraw(KEYS[2 * i])
  -- Once more: my intent may have been evicted, and a reader fixed the stamp before my COMMIT.
  redis.call('UNLINK', KEYS[2 * i - 1])
end

local values, k, a = {}, 2 * (stamps + entries) + 1, 8
while k <= #KEYS do
  local count = tonumber(ARGV[a + 2])
  values[KEYS[k]] = {slot = ARGV[a], ttl_ms = tonumber(ARGV[a + 1]), from = k + 1, to = k + count}
  k, a = k + 1 + count, a + 3
end

local function put(entry, value)
  redis.call('SET', entry, value.slot, 'PX', value.ttl_ms)
  for i = value.from, value.to do
    local left = redis.call('PTTL', KEYS[i])
    if left ~= -2 and left < value.ttl_ms then redis.call('PEXPIRE', KEYS[i], value.ttl_ms) end
  end
end

local done = 0
for i = stamps + 1, stamps + entries do
  local entry, others = KEYS[2 * i - 1], withdraw(KEYS[2 * i])
  local slot = redis.pcall('GET', entry)
  if values[entry] and slot == mine and others == 0 then
    -- The slot is still my intent, so nobody made the entry doubtful since I placed it.
    put(entry, values[entry])
    done = done + 1
  elseif not (others > 0 and type(slot) == 'string' and slot ~= mine
      and #slot == 1 + TOKEN and slot:sub(1, 1) == 'I') then
    redis.call('UNLINK', entry)
  end
end
if ARGV[4] == '' then return {done} end
-- After COMMIT: what is registered from here on is filled with what we have written.
redis.call('SELECT', ARGV[6])
local version = redis.pcall('HGET', ARGV[7], '~version')
redis.call('SELECT', ARGV[5])
return {done, version == ARGV[4] and 1 or 0}
