-- INTEND: hide everything a transaction touched, just before its COMMIT.
--
-- KEYS   for each touched stamp: stamp, its intents; for each touched entry: entry, its intents;
--        for each offer (its entry is also among the touched): entry, then stamp, its intents...
-- ARGV   token, intent_ms, number of stamps, number of entries,
--        version of the registry that the caller knows ('' = it does not ask), this database, the
--        registry's database, the registry,
--        for each offer: stamp_ttl_ms, number of stamps, one new stamp per stamp key
-- Reply  for each offer: {1, stamp...} if no other writer was about to commit, else {0};
--        if it asks: 1 if the registry still has that version, else 0
local STAMP, TOKEN = 16, 16
local token, intent_ms = ARGV[1], tonumber(ARGV[2])
local stamps, entries = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Count me in beside the others: writers of one key overlap, and the first to settle must not
-- uncover what the second is still about to change. Replies how many others live.
local function intend(intents)
  local held = redis.pcall('ZREM', intents, token)
  if type(held) == 'table' then redis.call('UNLINK', intents) end
  redis.call('ZREMRANGEBYSCORE', intents, '-inf', now)
  local others = redis.call('ZCARD', intents)
  redis.call('ZADD', intents, now + intent_ms, token)
  -- Raise only: another writer's intent may have to live longer than mine.
  if redis.call('PTTL', intents) < intent_ms then redis.call('PEXPIRE', intents, intent_ms) end
  return others
end

for i = 1, stamps do
  intend(KEYS[2 * i])
  redis.call('UNLINK', KEYS[2 * i - 1])
end
local others = {}
for i = stamps + 1, stamps + entries do
  local entry = KEYS[2 * i - 1]
  local slot = redis.pcall('GET', entry)
  others[entry] = intend(KEYS[2 * i])
  -- The counted intents of another writer may have been evicted; its slot is as good a witness.
  if type(slot) == 'string' and #slot == 1 + TOKEN and slot:sub(1, 1) == 'I'
      and slot ~= 'I' .. token then
    others[entry] = others[entry] + 1
  end
  -- Takes the value away, and a lease too: that fill may have read the database already.
  redis.call('SET', entry, 'I' .. token, 'PX', intent_ms)
end

-- Any intent on a stamp counts here, my own too: what carries that stamp will not outlive settle.
local function free(intents)
  local live = redis.pcall('ZCOUNT', intents, '(' .. now, '+inf')
  return type(live) ~= 'number' or live == 0
end

local function fix(key, new, ttl_ms)
  local stamp = redis.pcall('GET', key)
  if type(stamp) ~= 'string' or #stamp ~= STAMP then
    redis.call('SET', key, new, 'PX', ttl_ms)
    return new
  end
  if redis.call('PTTL', key) < ttl_ms then redis.call('PEXPIRE', key, ttl_ms) end
  return stamp
end

local replies, k, a = {}, 2 * (stamps + entries) + 1, 9
while k <= #KEYS do
  local entry, ttl_ms, count = KEYS[k], tonumber(ARGV[a]), tonumber(ARGV[a + 1])
  -- Two writers whose rows share no lock may commit in either order: neither knows the last
  -- value, so a writer that saw another's intent never puts its own.
  local clean = others[entry] == 0
  for i = 1, count do clean = clean and free(KEYS[k + 2 * i]) end
  local reply = {clean and 1 or 0}
  if clean then
    for i = 1, count do reply[i + 1] = fix(KEYS[k + 2 * i - 1], ARGV[a + 1 + i], ttl_ms) end
  end
  replies[#replies + 1] = reply
  k, a = k + 1 + 2 * count, a + 2 + count
end
-- After all is hidden: what is registered from here on is seen by SETTLE.
if ARGV[5] ~= '' then
  redis.call('SELECT', ARGV[7])
  local version = redis.pcall('HGET', ARGV[8], '~version')
  redis.call('SELECT', ARGV[6])
  replies[#replies + 1] = version == ARGV[5] and 1 or 0
end
return replies
