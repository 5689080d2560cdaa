-- REGISTER: say what this process caches, before it fills any of it.
--
-- KEYS   the registry
-- ARGV   a new version, how long (ms) these interests are kept unless they are registered again,
--        period (ms), grace (ms), the interests
-- Reply  {version, wait_ms...}: one wait for each interest, to be waited out before anything that
--        depends on it is published
--
-- The registry is one hash, so that it is lost as a whole or not at all. Beside the interests it
-- holds ~version (replaced whenever an interest comes or goes) and ~born (server ms). The value of
-- an interest is "since until" (server ms).
local KEEP_MS = 30 * 24 * 3600 * 1000
local registry, version = KEYS[1], ARGV[1]
local keep_ms, period_ms, grace_ms = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local current = redis.pcall('HGET', registry, '~version')
if type(current) ~= 'string' then
  redis.call('UNLINK', registry)
  redis.call('HSET', registry, '~version', version, '~born', now)
  current = version
end
local born = tonumber(redis.call('HGET', registry, '~born')) or now

local function written(interest) return interest:match('^[^|]*|([^|]*)|') or interest end

local since, known, changed = {}, {}, false
local function named(interest, at)
  local table_name = written(interest)
  if not since[table_name] or at < since[table_name] then since[table_name] = at end
end

local all = redis.call('HGETALL', registry)
for i = 1, #all, 2 do
  local interest = all[i]
  if interest:sub(1, 1) ~= '~' then
    local from, till = all[i + 1]:match('^(%d+) (%d+)')
    if not till or tonumber(till) < now then
      -- Whoever cared is gone, and everything it had published has ended since.
      redis.call('HDEL', registry, interest)
      changed = true
    else
      known[interest] = {tonumber(from), tonumber(till)}
      named(interest, tonumber(from))
    end
  end
end

local until_ms = now + keep_ms
for i = 5, #ARGV do
  local interest, old = ARGV[i], known[ARGV[i]]
  if not old then
    changed = true
    named(interest, now)
  end
  local from, till = old and old[1] or now, math.max(until_ms, old and old[2] or 0)
  redis.call('HSET', registry, interest, string.format('%.0f %.0f', from, till))
end
if changed then
  redis.call('HSET', registry, '~version', version)
  current = version
end
local keep = math.max(KEEP_MS, keep_ms)
if redis.call('PTTL', registry) < keep then redis.call('PEXPIRE', registry, keep) end

local reply = {current}
for i = 5, #ARGV do
  -- A table that nobody had named: some writers of it may not ask here at every commit, but they
  -- do within a period. While the registry is young all of them ask.
  local from = since[written(ARGV[i])]
  reply[i - 3] = from <= born + grace_ms and 0 or math.max(0, from + period_ms - now)
end
return reply
