-- Fragment: decides which tenant is served next, and charges it. The rules and their reasons are in
-- fair_queue.py and ready_tasks.py. This is a translation of them and gives the same order, equal starts
-- included: every number is an integer below 2^53, which doubles hold exactly.
--
-- A tenant is eligible in a lane while it has ready tasks there and is below its cap. Eligible tenants
-- are in the lane's ZSET by virtual start (equal starts: by bytes of UTF-8, which is code point order). The
-- start of a tenant that is not eligible, if it is above virtual time, is kept in the lane's debts. A lane
-- without eligible tenants has no debts and virtual time 0.

local REBASE_AT = 2 ^ 52
local STRIDE_OF_WEIGHT_ONE = 25200
-- No UTF-8 text has this byte, so no text can contain a separator.
local SEPARATOR = '\255'
local PLACE_LENGTH = 17 -- of priority and sequence in a member of ready

local INTERACTIVE = {code = 'i', tenants = key.interactive, debts = key.interactive_debts, time = 'interactive_time'}
local BULK = {code = 'b', tenants = key.bulk, debts = key.bulk_debts, time = 'bulk_time'}
local LANES = {interactive = INTERACTIVE, bulk = BULK}

local function counter(name)
  return tonumber(redis.call('HGET', key.meta, name) or 0)
end

-- The price of one token for the tenant, in virtual time, and its cap (nil: none).
local function share_of(tenant)
  local share = redis.call('HGET', key.shares, tenant)
  if not share then
    return STRIDE_OF_WEIGHT_ONE, nil
  end
  local stride, cap = string.match(share, '^(%d+) (%d*)$')
  return tonumber(stride), tonumber(cap)
end

local function at_cap(tenant)
  local _, cap = share_of(tenant)
  return cap ~= nil and tonumber(redis.call('HGET', key.in_flight, tenant) or 0) >= cap
end

-- The prefix of the tenant's tasks of this lane in `ready`.
local function line_of(lane, tenant)
  return tenant .. SEPARATOR .. lane.code
end

-- The task's member of `ready`. In its line, higher priority comes first, then first in, first out.
local function member_of(task)
  local line = line_of(LANES[task.lane], task.tenant)
  return line .. string.format('%03d%014x', 100 - task.priority, task.sequence) .. task.id
end

local function first_in_line(lane, tenant, limit)
  local line = line_of(lane, tenant)
  return redis.call('ZRANGEBYLEX', key.ready, '[' .. line, '(' .. line .. SEPARATOR, 'LIMIT', 0, limit)
end

local function has_work(lane, tenant)
  return #first_in_line(lane, tenant, 1) > 0
end

-- Notifies the waiting brokers when a stage that had no claimable task has one. The channel has the name of
-- the key `meta`.
local function ring_if_first()
  if redis.call('ZCARD', key.interactive) + redis.call('ZCARD', key.bulk) == 1 then
    redis.call('PUBLISH', key.meta, '')
  end
end

local function enter(lane, tenant)
  if redis.call('ZSCORE', lane.tenants, tenant) then
    return
  end
  local start = counter(lane.time)
  local debt = redis.call('ZSCORE', lane.debts, tenant)
  if debt then
    start = math.max(start, tonumber(debt))
    redis.call('ZREM', lane.debts, tenant)
  end
  redis.call('ZADD', lane.tenants, start, tenant)
  ring_if_first()
end

local function end_busy_period(lane)
  redis.call('HDEL', key.meta, lane.time)
  redis.call('UNLINK', lane.debts)
end

-- Keeps the start of a tenant that leaves. A debt that virtual time has passed has no effect. Up to two of
-- these are dropped for each debt that is added, so that tenants that never come back are forgotten.
local function keep_debt(lane, tenant, start)
  local time = counter(lane.time)
  if start > time then
    redis.call('ZADD', lane.debts, start, tenant)
  end
  local passed = redis.call('ZRANGEBYSCORE', lane.debts, '-inf', time, 'LIMIT', 0, 2)
  for _, other in ipairs(passed) do
    redis.call('ZREM', lane.debts, other)
  end
end

local function leave(lane, tenant)
  local start = redis.call('ZSCORE', lane.tenants, tenant)
  if not start then
    return
  end
  redis.call('ZREM', lane.tenants, tenant)
  if redis.call('EXISTS', lane.tenants) == 0 then
    end_busy_period(lane)
  else
    keep_debt(lane, tenant, tonumber(start))
  end
end

-- Makes the tenant eligible or not, after a change of its cap or of its tasks in flight.
local function share_changed(tenant)
  local capped = at_cap(tenant)
  for _, lane in ipairs({INTERACTIVE, BULK}) do
    if capped then
      leave(lane, tenant)
    elseif has_work(lane, tenant) then
      enter(lane, tenant)
    end
  end
end

-- Counts one more (1) or one less (-1) of the tenant's tasks as leased. A tenant without a cap is eligible
-- exactly while it has work, so its eligibility does not change.
local function count_in_flight(tenant, change)
  if redis.call('HINCRBY', key.in_flight, tenant, change) == 0 then
    redis.call('HDEL', key.in_flight, tenant)
  end
  local _, cap = share_of(tenant)
  if cap then
    share_changed(tenant)
  end
end

-- To be called after a task was added to its line.
local function joined_line(task)
  if not at_cap(task.tenant) then
    enter(LANES[task.lane], task.tenant)
  end
end

-- To be called after a task was removed from its line without being served.
local function left_line(task)
  local lane = LANES[task.lane]
  if not has_work(lane, task.tenant) then
    leave(lane, task.tenant)
  end
end
