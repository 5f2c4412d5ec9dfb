-- Describe the tasks of a job that are ready, leased or delayed.
--
-- KEYS[1]  meta               HASH  counters, virtual times
-- KEYS[2]  ready              ZSET  tasks in line, ordered by bytes
-- KEYS[3]  ready_costs        HASH  tenant -> tokens ready
-- KEYS[4]  shares             HASH  tenant -> stride
-- KEYS[5]  interactive        ZSET  eligible tenants by virtual start
-- KEYS[6]  bulk               ZSET  the same for the bulk lane
-- KEYS[7]  interactive_debts  ZSET  what absent tenants owe, by virtual start
-- KEYS[8]  bulk_debts         ZSET  the same for the bulk lane
-- KEYS[9]  tasks              HASH  id -> record
-- KEYS[10] payloads           HASH  id -> payload
-- KEYS[11] jobs               ZSET  job / id of what may be cancelled, ordered by bytes
-- KEYS[12] delayed            ZSET  id by due time
--
-- ARGV[1] now    seconds; '' for the server's clock
-- ARGV[2] job
-- ARGV[3] limit  1 to 1,000
--
-- Returns of each, by id: id, state, attempt, reason of its last return, and a number as text: of a ready task
-- the tasks of its tenant and lane that go first, of a delayed one the seconds until it is due, else empty.
-- Keeps: nothing is changed.
-- Uses: _time.lua, _fair_queue.lua, _layout.lua, _tasks.lua

local now = seconds_now(ARGV[1])
local line = ARGV[2] .. SEPARATOR
local entries = redis.call('ZRANGEBYLEX', key.jobs, '[' .. line, '(' .. line .. SEPARATOR, 'LIMIT', 0, ARGV[3])
local answer = {}
for _, entry in ipairs(entries) do
  local task = load(string.sub(entry, #line + 1))
  local number = ''
  if task.state == 'ready' then
    local first = '[' .. line_of(LANES[task.lane], task.tenant)
    number = tostring(redis.call('ZLEXCOUNT', key.ready, first, '(' .. member_of(task)))
  elseif task.state == 'delayed' then
    local due = tonumber(redis.call('ZSCORE', key.delayed, task.id))
    number = exactly(math.max(0, due - now))
  end
  for _, value in ipairs({task.id, task.state, task.attempt, task.reason, number}) do
    answer[#answer + 1] = value
  end
end
return answer
