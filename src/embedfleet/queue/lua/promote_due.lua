-- Make delayed tasks ready that are due, longest due first.
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
-- ARGV[2] limit  1 to 1,000
--
-- Returns how many are ready now.
-- Keeps: each task has its former place in line.
-- Uses: _time.lua, _fair_queue.lua, _layout.lua, _tasks.lua

local now = exactly(seconds_now(ARGV[1]))
local due = redis.call('ZRANGEBYSCORE', key.delayed, '-inf', now, 'LIMIT', 0, ARGV[2])

begin_even_if_memory_is_full()
for _, id in ipairs(due) do
  local task = load(id)
  redis.call('ZREM', key.delayed, id)
  add_cost('delayed', -task.cost)
  make_ready(task)
end
return #due
