-- Fragment: which tenant is served next, and what it is charged. The rules and their reasons are in
-- fair_queue.py and ready_tasks.py, of which this is a translation to the last tie: every number is an
-- integer below 2^53, so doubles are exact.
--
-- A tenant is eligible in a lane while it has ready tasks there and is below its cap. Eligible tenants
-- are in the lane's ZSET by virtual start (ties: bytes of UTF-8, which is code point order). What a
-- tenant owes beyond virtual time while it is not eligible is kept in the lane's debts. A lane without
-- eligible tenants has no debts and virtual time 0.

local REBASE_AT = 2 ^ 52
local STRIDE_OF_WEIGHT_ONE = 25200
-- Not a byte of any UTF-8 text: what stands before it cannot run into what stands behind.
local SEPARATOR = '\255'
local PLACE_LENGTH = 17 -- of priority and sequence in a member of ready

local INTERACTIVE = {code = 'i', tenants = key.interactive, debts = key.interactive_debts, time = 'interactive_time'}
local BULK = {code = 'b', tenants = key.bulk, debts = key.bulk_debts, time = 'bulk_time'}
local LANES = {interactive = INTERACTIVE, bulk = BULK}

local function counter(name)
  return tonumber(redis.call('HGET', key.meta, name) or 0)
end

-- What one token costs the tenant in virtual time, and its cap (nil: none).
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

-- Where the tenant's tasks in this lane stand in `ready`.
local function line_of(lane, tenant)
  return tenant .. SEPARATOR .. lane.code
end

-- A task's member of `ready`: inside the line, higher priority first, then first in first out.
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

-- Tells the brokers that wait when something became claimable where nothing was. The channel is named
-- like the key `meta`.
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

-- A debt that virtual time has passed weighs nothing. Two are dropped for each that is added, so that
-- tenants who never come back are forgotten.
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

-- The tenant's cap, or how far it is filled, may be different now.
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

-- One more (1) or one less (-1) of the tenant's tasks is leased. A tenant without a cap is eligible
-- exactly while it has work, so nothing changes for it.
local function count_in_flight(tenant, change)
  if redis.call('HINCRBY', key.in_flight, tenant, change) == 0 then
    redis.call('HDEL', key.in_flight, tenant)
  end
  local _, cap = share_of(tenant)
  if cap then
    share_changed(tenant)
  end
end

-- A task was added to its line.
local function joined_line(task)
  if not at_cap(task.tenant) then
    enter(LANES[task.lane], task.tenant)
  end
end

-- A task was taken out of its line unserved.
local function left_line(task)
  local lane = LANES[task.lane]
  if not has_work(lane, task.tenant) then
    leave(lane, task.tenant)
  end
end
